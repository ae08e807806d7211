"""LitData: chunks of 64 MB as litdata.optimize() writes them.

Samples are decoded one by one (batch_decode=0) and shuffled over a whole chunk (item_shuffle_window=0): with its
default windows of 256 both random access and the shuffled epoch take several times longer here.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import litdata
import numpy as np
import torch

from peers import Peer
from rows import BATCH_SIZE, Rows, key, label


class LitDataChunks(Peer):
    """By place, a sample at a time. Its shuffle is of chunks, and of the samples of each chunk."""

    def write(self) -> None:
        litdata.optimize(
            partial(_sample, self.rows.path, self.rows.num_rows),
            list(self.rows.places),
            str(self.folder / "chunks"),
            chunk_bytes="64MB",
            num_workers=1,  # so that places stay in order
            verbose=False,
        )

    def open(self) -> None:
        self.dataset = litdata.StreamingDataset(str(self.folder / "chunks"), batch_decode=0)
        self.loaders: dict[int, Any] = {}

    def get(self, address: list[int]) -> np.ndarray:
        return torch.stack([self.dataset[place]["vector"] for place in address]).numpy()

    def scan(self) -> Iterator[np.ndarray]:
        for sample in litdata.StreamingDataset(str(self.folder / "chunks")):
            yield sample["vector"].numpy()[None]

    def epoch(self, num_workers: int, epoch: int) -> Iterator[tuple[Any, Any]]:
        if num_workers not in self.loaders:
            shuffled = litdata.StreamingDataset(
                str(self.folder / "chunks"), shuffle=True, seed=0, batch_decode=0, item_shuffle_window=0
            )
            self.loaders[num_workers] = litdata.StreamingDataLoader(
                shuffled, batch_size=BATCH_SIZE, num_workers=num_workers, persistent_workers=num_workers > 0
            )
        for batch in self.loaders[num_workers]:
            yield batch["vector"], batch["label"]


def _sample(path: Path, num_rows: int, place: int) -> dict[str, Any]:
    vector = np.array(Rows(path, num_rows).vectors[place])
    return {"key": key(place), "label": label(place), "vector": torch.from_numpy(vector)}
