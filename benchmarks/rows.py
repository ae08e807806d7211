"""The rows that every library keeps: a key, a vector of 768 numbers in float16 and one of ten labels."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

DIM = 768
NUM_LABELS = 10
ROW_BYTES = DIM * 2
BATCH_SIZE = 256
_BLOCK_ROWS = 8192


@dataclass(frozen=True)
class Rows:
    """The rows on disk, as plain numbers one after the other."""

    path: Path
    num_rows: int

    @property
    def vectors(self) -> np.ndarray:
        """float16 [row, dim], a memory map."""
        return np.memmap(self.path, np.float16, "r", shape=(self.num_rows, DIM))

    @property
    def places(self) -> range:
        """The places of all rows."""
        return range(self.num_rows)

    def blocks(self) -> list[range]:
        """The places of all rows, in parts that fit into memory beside anything else."""
        return [self.places[start : start + _BLOCK_ROWS] for start in range(0, self.num_rows, _BLOCK_ROWS)]


def make_rows(path: Path, num_rows: int) -> Rows:
    """Write rows of random numbers, the same for the same number of rows."""
    rng = np.random.default_rng(0)
    with open(path, "wb") as file:
        for start in range(0, num_rows, _BLOCK_ROWS):
            size = (min(_BLOCK_ROWS, num_rows - start), DIM)
            file.write(rng.standard_normal(size, np.float32).astype(np.float16).tobytes())
    return Rows(path, num_rows)


def key(place: int) -> str:
    """A key as Plait makes them: of a recording and a segment in it. It rises with the place."""
    return f"recording{place // 20:06d}/{place % 20:04d}"


def label(place: int) -> int:
    """The label of the row at the place."""
    return place * 7919 % NUM_LABELS
