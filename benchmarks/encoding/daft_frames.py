"""Daft: a column made by a class that holds the model, in a process for each processor."""

import os
from pathlib import Path
from typing import Any

import daft
import numpy as np
import torch

from encoding.models import load_network, load_shaper
from encoding.tasks import Task

_CORES = len(os.sched_getaffinity(0))


class Way:
    """Its processes begin with the run, as it has no other way."""

    def __init__(self, task: Task, paths: list[Path], folder: Path) -> None:
        self.task = task
        self.files = daft.from_pydict({"path": [str(path) for path in paths]})

    def run(self) -> np.ndarray:
        """float32 [sample, dim]."""
        encode = _encoder(self.task.batch_size)(self.task)
        encoded = self.files.with_column("vector", encode(daft.col("path"))).to_arrow()
        vectors = encoded["vector"].combine_chunks()
        return vectors.flatten().to_numpy().reshape(len(vectors), -1)


def _encoder(batch_size: int) -> Any:
    @daft.cls(max_concurrency=_CORES)
    class Encode:
        def __init__(self, task: Task) -> None:
            torch.set_num_threads(1)  # there is a process for each processor
            self.shaper, self.network = load_shaper(task), load_network(task)

        @daft.method.batch(return_dtype=daft.DataType.list(daft.DataType.float32()), batch_size=batch_size)
        def __call__(self, paths: daft.Series) -> list[np.ndarray]:
            samples = [self.shaper.prepare(Path(path)) for path in paths]
            return list(self.network.encode(self.shaper.collate(samples)))

    return Encode
