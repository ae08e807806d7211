"""The bare model: a hand-written loop over batches that are in memory already, decoded, shaped and padded.

Tuned as one would by hand: batches are of samples of like length, and it tries several sizes of them, run one by one on
all processors, or on a thread for each, and takes the fastest.
"""

import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from encoding.models import Network, load_network, load_shaper
from encoding.tasks import Task

_BATCH_SIZES = (1, 8, 32)
_BATCH_SIZES_ON_GPU = (32, 64, 128, 256)
_TRIED_S = 0.5  # for each of the choices
_FEW = 64  # samples that are not worth it
_CORES = len(os.sched_getaffinity(0))


class Way:
    """Decodes everything before the clock starts."""

    def __init__(self, task: Task, paths: list[Path], folder: Path) -> None:
        self.task, self.shaper = task, load_shaper(task)
        self.samples = [self.shaper.prepare(path) for path in paths]
        self.order = sorted(range(len(paths)), key=lambda place: -self.samples[place].size)
        batch_size, self.num_loops = self._fastest()
        self.places = self._cut(batch_size)
        self.batches = [self._collate(places) for places in self.places]
        self.samples.clear()

    def run(self) -> np.ndarray:
        """float32 [sample, dim]."""
        network = load_network(self.task)
        with _threads(self.num_loops) as pool:
            vectors_BD = np.concatenate(list(pool.map(network.encode, self.batches)))
        vectors_ND = np.empty_like(vectors_BD)
        vectors_ND[self.order] = vectors_BD
        return vectors_ND

    def _cut(self, batch_size: int) -> list[list[int]]:
        return [self.order[start : start + batch_size] for start in range(0, len(self.order), batch_size)]

    def _collate(self, places: list[int]) -> Any:
        batch = self.shaper.collate([self.samples[place] for place in places])
        return batch.to(self.task.device) if self.task.is_for_gpu else batch  # what is measured is the model alone

    def _fastest(self) -> tuple[int, int]:
        """Batch size and number of loops."""
        if len(self.samples) <= _FEW:
            return 1, _CORES
        network = load_network(self.task)
        sizes = _BATCH_SIZES_ON_GPU if self.task.is_for_gpu else _BATCH_SIZES
        choices = [(size, loops) for size, loops in product(sizes, {1, _CORES}) if size * loops < len(self.samples)]
        return max(choices, key=lambda choice: self._speed(network, *choice))

    def _speed(self, network: Network, batch_size: int, num_loops: int) -> float:
        """Size encoded in a second, over batches from all over the order, so that lengths are as in the whole."""
        batches = self._cut(batch_size)
        random.Random(0).shuffle(batches)
        until_s = time.monotonic() + _TRIED_S

        def encode(number: int) -> tuple[int, float]:
            if number >= 2 * num_loops and time.monotonic() > until_s:
                return 0, 0.0
            batch = self._collate(batches[number])
            started_s = time.monotonic()
            network.encode(batch)
            return sum(self.samples[place].size for place in batches[number]), time.monotonic() - started_s

        with _threads(num_loops) as pool:
            # The first batch on each thread warms it up.
            sizes, seconds = zip(*list(pool.map(encode, range(len(batches))))[num_loops:], strict=True)
        return num_loops * sum(sizes) / sum(seconds)


def _threads(num_loops: int) -> ThreadPoolExecutor:
    import torch

    return ThreadPoolExecutor(num_loops, initializer=torch.set_num_threads, initargs=(_CORES // num_loops,))
