"""numpy: fancy indexing on a memory map, the floor under reading by place, and one copy of all bytes."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from peers import NotOffered, Peer


class NumpyMap(Peer):
    """By place; has no keys, no labels and no loader."""

    def write(self) -> None:
        pass  # the rows are kept so already

    def open(self) -> None:
        self.vectors = self.rows.vectors

    def address(self, places_N: np.ndarray) -> np.ndarray:
        return places_N

    def get(self, address: np.ndarray) -> np.ndarray:
        return self.vectors[address]

    def scan(self) -> Iterator[np.ndarray]:
        yield self.vectors

    def epoch(self, num_workers: int, epoch: int) -> Iterator[tuple[Any, Any]]:
        raise NotOffered("a memory map has no loader")
