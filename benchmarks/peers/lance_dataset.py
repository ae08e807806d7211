"""Lance: one dataset with the defaults of lance.write_dataset()."""

from collections.abc import Iterator
from typing import Any

import lance
import numpy as np
from lance.sampler import Sampler, ShardedBatchSampler
from lance.torch.data import LanceDataset
from lance.torch.dist import get_global_rank, get_global_world_size
from torch.utils.data import DataLoader

from peers import Peer
from peers.tables import table_blocks, vectors_of
from rows import BATCH_SIZE


class LanceRows(Peer):
    """By place with take(), its fastest access.

    Its loader for random order shuffles batches of neighbours (ShardedBatchSampler), not samples: less than asked for.
    """

    def write(self) -> None:
        blocks = table_blocks(self.rows)
        lance.write_dataset(blocks, self.folder / "rows.lance", schema=blocks.schema)

    def open(self) -> None:
        self.dataset = lance.dataset(self.folder / "rows.lance")
        self.loaders: dict[int, Any] = {}
        self.shuffled = _Shuffled()

    def get(self, address: list[int]) -> np.ndarray:
        return vectors_of(self.dataset.take(address, columns=["vector"])["vector"])

    def scan(self) -> Iterator[np.ndarray]:
        for batch in self.dataset.to_batches(columns=["vector"]):
            yield vectors_of(batch["vector"])

    def epoch(self, num_workers: int, epoch: int) -> Iterator[tuple[Any, Any]]:
        if num_workers not in self.loaders:
            batches = LanceDataset(
                self.dataset, BATCH_SIZE, columns=["vector", "label"], sampler=self.shuffled, shard_granularity=None
            )
            # Lance is not safe to fork, so its own get_safe_loader() spawns too.
            workers = {"multiprocessing_context": "spawn", "persistent_workers": True} if num_workers else {}
            self.loaders[num_workers] = DataLoader(batches, batch_size=None, num_workers=num_workers, **workers)
        for batch in self.loaders[num_workers]:
            yield batch["vector"], batch["label"]


class _Shuffled(Sampler):
    """Lance's sampler for the worker that it finds itself in."""

    def __call__(self, dataset: Any, **options: Any) -> Any:
        sampler = ShardedBatchSampler(get_global_rank(), get_global_world_size(), randomize=True, seed=0)
        return sampler(dataset, **options)
