"""A small store for tests of batches: what a row holds follows from its number."""

from pathlib import Path

import numpy as np
from building import build_store

import features
from features.store import Store

NUM_SAMPLES = 50


def loader_store(folder: Path) -> Store:
    """50 training samples and one for val; a row's image is its number, absent in every third.

    It has row % 5 frames, also of its number, which are absent where that is 0.
    """
    rows = range(NUM_SAMPLES + 1)
    samples = [
        {
            "key": f"rec{row:03}",
            "label": None if row == 4 else "ab"[row % 2],
            "split": "train" if row < NUM_SAMPLES else "val",
        }
        for row in rows
    ]
    images = [None if row % 3 == 0 else np.full(2, row, np.float16) for row in rows]
    frames = [np.full((row % 5, 3), row, np.float16) if row % 5 else None for row in rows]
    starts = [np.arange(float(row % 5)) for row in rows]
    times = [np.stack([start_T, start_T + 0.5], axis=1) if len(start_T) else None for start_T in starts]
    build_store(folder, samples, {"image": {"vectors": images}, "frames": {"vectors": frames, "times": times}})
    return features.open(folder)
