"""A small labelled store in which no view alone tells all classes apart, and both together do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from building import build_store

CLASSES = ("left", "mid", "right")
NUM_RECORDINGS = 60
_SPLITS = ("train", "train", "train", "val", "test")

StoreMaker = Callable[..., Path]


def labelled_store(
    parent: Path,
    *,
    relabel: Callable[[str, str], str | None] = lambda split, label: label,
    resplit: Callable[[str], str] = lambda split: split,
    views: tuple[str, ...] = ("audio", "image"),
    rev: str = "r1",
    sequence: bool = False,
    name: str = "features",
) -> Path:
    """Write a store to the folder it returns; relabel is given split and label, resplit the split."""
    rng = np.random.default_rng(7)
    samples: list[dict[str, Any]] = []
    vectors: dict[str, list[np.ndarray | None]] = {"audio": [], "image": []}
    for recording in range(NUM_RECORDINGS):
        for place in range(6):
            kind = (recording + place) % 3
            split = _SPLITS[recording % len(_SPLITS)]
            label = relabel(split, CLASSES[kind])
            samples.append({"key": f"rec{recording:02d}/{place}", "split": resplit(split), "label": label})
            image = _noisy(rng, centre=5.0 if kind == 0 else 1.0)  # left against the others
            audio = _noisy(rng, centre=-3.0 if kind == 2 else 9.0)  # right against the others
            vectors["image"].append(None if len(samples) % 8 == 0 else image)
            vectors["audio"].append(None if len(samples) % 11 == 0 else audio)
    declared: dict[str, dict[str, Any]] = {view: {"vectors": vectors[view], "rev": f"{view}-{rev}"} for view in views}
    if sequence:
        declared["frames"] = {
            "vectors": [np.zeros((2, 3), np.float32)] * len(samples),
            "times": [np.array([[0.0, 1.0], [1.0, 2.0]])] * len(samples),
            "input": "video",
        }
    folder = parent / name
    build_store(folder, samples, declared, shard_rows=64)
    return folder


def _noisy(rng: np.random.Generator, *, centre: float) -> np.ndarray:
    return (centre + rng.normal(scale=0.8, size=4)).astype(np.float32)
