"""What is encoded, by what, and where its files lie: all that a loader's process needs to know."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Task:
    """One model over one kind of media; view: what params.yaml would declare.

    number, quick_number: of samples, in a full run and in a quick one; batch_size: where a way leaves it to its user;
    is_for_gpu: whether the model runs on a GPU, or in a quick run where there is none on the CPU in its place, unless
    it needs_gpu; random_timm: the timm model whose weights are random ones, if it is one.
    """

    name: str
    modality: str
    number: int
    quick_number: int
    view: dict[str, Any]
    batch_size: int = 32
    is_for_gpu: bool = False
    needs_gpu: bool = False
    random_timm: str | None = None

    @property
    def device(self) -> str:
        if not self.is_for_gpu:
            return "cpu"
        import torch  # by no process of the other tasks that has no use for it

        return "cuda" if torch.cuda.is_available() else "cpu"


_VIT = "vit_base_patch16_224"
_ON_GPU = {"options": {"batch_size": 64}}
TASKS = {
    task.name: task
    for task in (
        Task("MiniLM, sentences", "text", 20_000, 400, {"encoder": "minilm"}),
        Task("EfficientNet-Lite0, JPEGs", "image", 5_000, 100, {"encoder": "efficientnet-lite0"}),
        Task("log-mel and MFCC, clips", "audio", 5_000, 1_000, {"encoder": "logmel-mfcc", "pooling": "mean_std"}),
        Task("EfficientNet-Lite0, frames of clips", "video", 200, 8, {"encoder": "efficientnet-lite0"}, 4),
        # One that waits for decoding, and one as large as most that are worth a GPU.
        Task(
            "EfficientNet-Lite0, JPEGs, on a GPU",
            "image",
            *(5_000, 128, {"encoder": "efficientnet-lite0", **_ON_GPU}, 64),
            is_for_gpu=True,
        ),
        Task(
            "ViT-B/16, JPEGs, on a GPU",
            "image",
            *(10_000, 256, {"encoder": f"timm:{_VIT}", **_ON_GPU}, 64),
            is_for_gpu=True,
            needs_gpu=True,
            random_timm=_VIT,
        ),
    )
}


def media_paths(folder: Path) -> list[Path]:
    """A path for each sample, in the order of the keys."""
    return sorted(folder.iterdir())


def frame_paths(clip: Path) -> list[Path]:
    return sorted(clip.iterdir())
