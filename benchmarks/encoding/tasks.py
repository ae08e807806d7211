"""What is encoded, by what, and where its files lie: all that a loader's process needs to know."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Task:
    """One model over one kind of media; view: what params.yaml would declare.

    number, quick_number: of samples, in a full run and in a quick one; batch_size: where a way leaves it to its user.
    """

    name: str
    modality: str
    number: int
    quick_number: int
    view: dict[str, Any]
    batch_size: int = 32


TASKS = {
    task.name: task
    for task in (
        Task("MiniLM, sentences", "text", 20_000, 400, {"encoder": "minilm"}),
        Task("EfficientNet-Lite0, JPEGs", "image", 5_000, 100, {"encoder": "efficientnet-lite0"}),
        Task("log-mel and MFCC, clips", "audio", 5_000, 1_000, {"encoder": "logmel-mfcc", "pooling": "mean_std"}),
        Task("EfficientNet-Lite0, frames of clips", "video", 200, 8, {"encoder": "efficientnet-lite0"}, 4),
    )
}


def media_paths(folder: Path) -> list[Path]:
    """A path for each sample, in the order of the keys."""
    return sorted(folder.iterdir())


def frame_paths(clip: Path) -> list[Path]:
    return sorted(clip.iterdir())
