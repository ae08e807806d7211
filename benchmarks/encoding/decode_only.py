"""Reading, decoding and shaping alone, on all processors: the most that any way that starts at files can reach."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from encoding.inputs import Task
from encoding.models import load_model


class Way:
    """Keeps nothing of what it decodes, and has no vectors."""

    def __init__(self, task: Task, paths: list[Path], folder: Path) -> None:
        self.paths, self.model = paths, load_model(task)

    def run(self) -> None:
        def decode(path: Path) -> None:
            self.model.prepare(path)

        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            for _ in pool.map(decode, self.paths):
                pass
