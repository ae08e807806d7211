"""How each library keeps and gives the same rows, by its own recommended means."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rows import Rows


class NotOffered(Exception):  # noqa: N818  # it is no error
    """The library has no such operation; the text says what it has instead."""


class Peer:
    """One library. What it cannot do raises NotOffered.

    All of them may use all processors, as they do by default, and all files are in the system's cache.
    """

    def __init__(self, rows: Rows, folder: Path) -> None:
        self.rows = rows
        self.folder = folder

    def write(self) -> None:
        """Write the rows into the folder, which exists."""
        raise NotImplementedError

    def open(self) -> None:
        """Open what was written, as often as one would in a process: once."""
        raise NotImplementedError

    def address(self, places_N: np.ndarray) -> Any:
        """How the library calls the rows at these places; making it is not timed. By default their places."""
        return places_N.tolist()

    def get(self, address: Any) -> np.ndarray:
        """[row, dim], the vectors in the library's own dtype; where it has no order of its own, in any order."""
        raise NotImplementedError

    def one(self, address: Any) -> np.ndarray:
        """[row, dim] of an address of one row."""
        return self.get(address)

    def scan(self) -> Iterator[np.ndarray]:
        """All vectors, [row, dim] at a time."""
        raise NotImplementedError

    def epoch(self, num_workers: int, epoch: int) -> Iterator[tuple[Any, Any]]:
        """Shuffled batches of 256 as torch tensors: vectors [row, dim] and labels."""
        raise NotImplementedError
