"""The bare model: a hand-written loop over media that are in memory already, decoded and shaped.

Tuned as one would by hand: on a few samples it tries batches of several sizes, run one by one on all processors, or on
a thread for each, and takes the fastest.
"""

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from encoding.inputs import Task
from encoding.models import Model, Prepared, load_model, prepare_all

_BATCH_SIZES = (1, 4, 8, 16, 32)
_TRIED = 64  # samples
_CORES = len(os.sched_getaffinity(0))


class Way:
    """Decodes everything before the clock starts."""

    def __init__(self, task: Task, paths: list[Path], folder: Path) -> None:
        self.task = task
        self.prepared: list[Prepared] = prepare_all(task, paths)
        model, tried = load_model(task), self.prepared[:_TRIED]
        choices = product(_BATCH_SIZES, {1, _CORES})
        _, self.batch_size, self.num_loops = min((_seconds(model, tried, *choice), *choice) for choice in choices)

    def run(self) -> np.ndarray:
        """float32 [sample, dim]."""
        return _run(load_model(self.task), self.prepared, self.batch_size, self.num_loops)


def _seconds(model: Model, samples: Sequence[Prepared], batch_size: int, num_loops: int) -> float:
    _run(model, samples[:batch_size], batch_size, num_loops)
    started_s = time.monotonic()
    _run(model, samples, batch_size, num_loops)
    return time.monotonic() - started_s


def _run(model: Model, samples: Sequence[Prepared], batch_size: int, num_loops: int) -> np.ndarray:
    import torch

    vectors: list[Any] = [None] * len(samples)
    order = sorted(range(len(samples)), key=lambda place: -samples[place].size)  # little padding

    def encode(places: list[int]) -> None:
        with torch.inference_mode():
            for place, vector in zip(places, model.batch([samples[place] for place in places]), strict=True):
                vectors[place] = vector

    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    num_threads = _CORES // num_loops
    torch.set_num_threads(num_threads)
    with ThreadPoolExecutor(num_loops, initializer=torch.set_num_threads, initargs=(num_threads,)) as pool:
        list(pool.map(encode, batches))
    return np.stack(vectors)
