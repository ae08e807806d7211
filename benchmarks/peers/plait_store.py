"""Plait: a store as the stage embed writes it."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from peers import Peer
from rows import BATCH_SIZE, key, label

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[2] / "tests")]

SHARD_ROWS = 256  # embed.shard_samples of params.yaml


class PlaitStore(Peer):
    """By key; the loader shuffles all samples, over workers that live on between epochs."""

    def write(self) -> None:
        from building import build_store

        samples = [{"key": key(place), "label": str(label(place))} for place in self.rows.places]
        build_store(self.folder, samples, {"image": {"vectors": self.rows.vectors}}, shard_rows=SHARD_ROWS)

    def open(self) -> None:
        import features

        self.store = features.open(self.folder)
        self.loaders: dict[int, Any] = {}

    def address(self, places_N: np.ndarray) -> list[str]:
        return [key(place) for place in places_N.tolist()]

    def get(self, address: list[str]) -> np.ndarray:
        return self.store.get(address, "image")

    def scan(self) -> Iterator[np.ndarray]:
        return self.store.scan("image")

    def epoch(self, num_workers: int, epoch: int) -> Iterator[tuple[Any, Any]]:
        if num_workers not in self.loaders:
            # The dtype of all others here; by default the vectors would be widened to float32.
            batches = self.store.batches(["image"], split=None, batch_size=BATCH_SIZE, seed=0, dtype=None)
            self.loaders[num_workers] = batches.loader(num_workers=num_workers)
        for batch in self.loaders[num_workers]:
            yield batch["image"], batch["label"]
