"""torch's DataLoader, as clip-retrieval and img2dataset's readers use it: workers decode, one process encodes."""

from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

from encoding.models import Prepared, Shaper, load_network, load_shaper
from encoding.tasks import Task

_WORKERS = 2


class Way:
    """Workers shape and collate; batches come in order."""

    def __init__(self, task: Task, paths: list[Path], folder: Path) -> None:
        self.task, self.paths = task, paths

    def run(self) -> np.ndarray:
        """float32 [sample, dim]."""
        shaper, network = load_shaper(self.task), load_network(self.task)
        loader: DataLoader[Any] = DataLoader(
            _Files(shaper, self.paths),
            batch_size=self.task.batch_size,
            num_workers=_WORKERS,
            collate_fn=shaper.collate,
        )
        return np.concatenate([network.encode(batch) for batch in loader])


class _Files(Dataset[Prepared]):
    def __init__(self, shaper: Shaper, paths: list[Path]) -> None:
        self.shaper, self.paths = shaper, paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, place: int) -> Prepared:
        return self.shaper.prepare(self.paths[place])
