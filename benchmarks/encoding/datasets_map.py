"""Hugging Face datasets: map over the paths in batches, with the model in the process that maps."""

from pathlib import Path

import datasets
import numpy as np

from encoding.models import load_network, load_shaper
from encoding.tasks import Task

datasets.disable_progress_bars()


class Way:
    """The vectors become a column of the data set."""

    def __init__(self, task: Task, paths: list[Path], folder: Path) -> None:
        self.task = task
        self.files = datasets.Dataset.from_dict({"path": [str(path) for path in paths]})

    def run(self) -> np.ndarray:
        """float32 [sample, dim]."""
        shaper, network = load_shaper(self.task), load_network(self.task)

        def encode(rows: dict[str, list[str]]) -> dict[str, np.ndarray]:
            return {"vector": network.encode(shaper.collate([shaper.prepare(Path(path)) for path in rows["path"]]))}

        encoded = self.files.map(encode, batched=True, batch_size=self.task.batch_size)
        return encoded.with_format("numpy")["vector"][:]
