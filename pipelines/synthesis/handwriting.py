"""Handwritten digits by real people: the data set that comes with scikit-learn."""

from functools import cache

import numpy as np
from sklearn.datasets import load_digits

_INK_LEVELS = 16


@cache
def load_handwriting() -> tuple[np.ndarray, np.ndarray]:
    """The pictures, float32 [picture, 8, 8] from 0 paper to 1 ink, and the digit of each, int64 [picture]."""
    digits = load_digits()
    glyphs: np.ndarray = (digits.images / _INK_LEVELS).astype(np.float32)
    return glyphs, digits.target
