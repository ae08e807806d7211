"""Lance once more, with a loader that shuffles samples: nothing of its own does, but its take() in a torch Dataset."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from lance.torch.data import SafeLanceDataset, get_safe_loader

from peers import NotOffered
from peers.lance_dataset import LanceRows
from peers.tables import vectors_of
from rows import BATCH_SIZE


class LanceSamples(LanceRows):
    """Only the loader; all else is timed with Lance's own way."""

    def get(self, address: Any) -> np.ndarray:
        raise NotOffered("it is Lance")

    def scan(self) -> Iterator[np.ndarray]:
        raise NotOffered("it is Lance")

    def epoch(self, num_workers: int, epoch: int) -> Iterator[tuple[Any, Any]]:
        if num_workers not in self.loaders:
            options = {"collate_fn": _as_is, "shuffle": True, "generator": torch.Generator().manual_seed(0)}
            if not num_workers:
                options["multiprocessing_context"] = None
                options["persistent_workers"] = False
            samples = _Taken(str(self.folder / "rows.lance"))
            self.loaders[num_workers] = get_safe_loader(samples, BATCH_SIZE, num_workers, **options)
        yield from self.loaders[num_workers]


class _Taken(SafeLanceDataset):
    """Lance's own map-style dataset, which opens the files in each worker, with tensors in place of Python lists."""

    def __getitems__(self, indices: list[int]) -> Any:
        if self._ds is None:
            super().__getitems__(indices[:1])  # opens it
        taken = self._ds.take(indices, columns=["vector", "label"])
        return torch.from_numpy(vectors_of(taken["vector"])), torch.from_numpy(taken["label"].to_numpy())


def _as_is(batch: Any) -> Any:
    return batch
