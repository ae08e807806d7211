"""Reading, decoding and shaping alone, on all processors: the most that any way that starts at files can reach."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from encoding.models import load_shaper
from encoding.tasks import Task


class Way:
    """Keeps nothing of what it decodes, and has no vectors."""

    def __init__(self, task: Task, paths: list[Path], folder: Path) -> None:
        self.paths, self.shaper = paths, load_shaper(task)

    def run(self) -> None:
        def decode(path: Path) -> None:
            self.shaper.prepare(path)

        num_threads = len(os.sched_getaffinity(0))
        with ThreadPoolExecutor(num_threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for _ in pool.map(decode, self.paths):
                pass
