"""Hugging Face datasets: one saved to disk, memory-mapped when it is loaded."""

from collections.abc import Iterator
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import torch
from torch.utils.data import DataLoader

from peers import Peer
from peers.tables import SCHEMA, table_blocks, vectors_of
from rows import BATCH_SIZE


class HuggingFaceDataset(Peer):
    """By place. In the format "arrow", its fastest; for training in the format "torch" under a shuffling DataLoader,
    which asks it for whole batches."""

    def write(self) -> None:
        path = self.folder / "rows.arrow"
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, SCHEMA) as sink:
            for batch in table_blocks(self.rows):
                sink.write_batch(batch)
        datasets.Dataset.from_file(str(path)).save_to_disk(self.folder / "saved")
        path.unlink()

    def open(self) -> None:
        self.dataset = datasets.load_from_disk(self.folder / "saved")
        self.vectors = self.dataset.select_columns(["vector"]).with_format("arrow")
        self.loaders: dict[int, Any] = {}

    def get(self, address: list[int]) -> np.ndarray:
        return vectors_of(self.vectors[address]["vector"])

    def scan(self) -> Iterator[np.ndarray]:
        for table in self.vectors.iter(batch_size=1000):
            yield vectors_of(table["vector"])

    def epoch(self, num_workers: int, epoch: int) -> Iterator[tuple[Any, Any]]:
        if num_workers not in self.loaders:
            self.loaders[num_workers] = DataLoader(
                self.dataset.select_columns(["vector", "label"]).with_format("torch"),
                batch_size=BATCH_SIZE,
                shuffle=True,
                generator=torch.Generator().manual_seed(0),
                num_workers=num_workers,
                persistent_workers=num_workers > 0,
            )
        for batch in self.loaders[num_workers]:
            yield batch["vector"], batch["label"]
