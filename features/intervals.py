"""Half-open intervals of time, of any number of samples at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_SLIVER = 1e-6  # of a window: what a rounded duration has too much makes no window of its own


@dataclass(frozen=True)
class Intervals:
    """Intervals [start, end) in seconds, those of each sample after those of the one before.

    start_T, end_T: float64 [interval], NaN where there is no clock; offsets: int64 [sample + 1], from 0, where the
    intervals of each sample begin. An interval that ends where it starts holds no time.
    Raises ValueError for an interval that ends before it starts or is infinite, and where the lengths do not agree.
    """

    start_T: np.ndarray
    end_T: np.ndarray
    offsets: np.ndarray

    def __post_init__(self) -> None:
        for name, dtype in (("start_T", np.float64), ("end_T", np.float64), ("offsets", np.int64)):
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), dtype))
        if not len(self.offsets) or self.offsets[0] != 0 or (np.diff(self.offsets) < 0).any():
            raise ValueError("the offsets of intervals must begin with 0 and never fall")
        if not len(self.start_T) == len(self.end_T) == self.offsets[-1]:
            raise ValueError(
                f"{len(self.start_T)} starts and {len(self.end_T)} ends, but offsets to {self.offsets[-1]}"
            )
        wrong_T = (self.end_T < self.start_T) | np.isinf(self.start_T) | np.isinf(self.end_T)
        if wrong_T.any():
            place = int(np.argmax(wrong_T))
            sample = int(np.searchsorted(self.offsets, place, side="right")) - 1
            raise ValueError(
                f"interval {place - self.offsets[sample]} of sample {sample} goes from {self.start_T[place]} s to "
                f"{self.end_T[place]} s; it must be finite and not end before it starts"
            )

    @classmethod
    def ragged(cls, times: Sequence[np.ndarray]) -> "Intervals":
        """From an array [interval, (start, end)] a sample."""
        parts = [np.asarray(part, np.float64).reshape(-1, 2) for part in times]
        times_T2 = np.concatenate([np.empty((0, 2)), *parts])
        offsets = np.cumsum([0, *map(len, parts)])
        return cls(times_T2[:, 0], times_T2[:, 1], offsets)

    @classmethod
    def joined(cls, parts: "Sequence[Intervals]") -> "Intervals":
        """Those of the samples of all parts, one after the other."""
        lengths = np.concatenate([np.empty(0, np.int64), *(part.lengths for part in parts)])
        starts, ends = ([np.empty(0), *(getattr(part, name) for part in parts)] for name in ("start_T", "end_T"))
        return cls(np.concatenate(starts), np.concatenate(ends), np.concatenate([[0], np.cumsum(lengths)]))

    @classmethod
    def from_arrow(cls, lists: Any) -> "Intervals":
        """From a list column: of structs with start_s and end_s, whatever else they have, or of pairs of numbers."""
        offsets, spans = flat_lists(lists)
        if pa.types.is_struct(spans.type):
            start_T, end_T = (floats(spans.field(name)) for name in ("start_s", "end_s"))
        elif _are_pairs(spans):
            start_T, end_T = floats(spans.flatten()).reshape(-1, 2).T
        else:
            raise ValueError(f"intervals are {lists.type}; give lists of structs with start_s and end_s, or of pairs")
        return cls(start_T, end_T, offsets)

    @classmethod
    def windows(cls, duration_K: np.ndarray, rate_hz: float) -> "Intervals":
        """Windows [i / rate_hz, (i + 1) / rate_hz) from 0 to each duration in seconds, at which the last one ends.

        So they cover a sample once and without a gap. A duration that is NaN has none.
        """
        if not 0 < rate_hz < np.inf:
            raise ValueError(f"the rate is {rate_hz} Hz; it must be above 0")
        num_K = np.ceil(np.nan_to_num(duration_K) * rate_hz - _SLIVER).clip(min=0).astype(np.int64)
        offsets = np.cumsum(np.concatenate([[0], num_K]))
        place_T = np.arange(offsets[-1]) - np.repeat(offsets[:-1], num_K)
        end_T = (place_T + 1) / rate_hz
        end_T[offsets[1:][num_K > 0] - 1] = duration_K[num_K > 0]
        return cls(place_T / rate_hz, end_T, offsets)

    def __len__(self) -> int:
        """How many samples there are."""
        return len(self.offsets) - 1

    def __getitem__(self, samples: slice) -> "Intervals":
        """Those of consecutive samples."""
        start, stop, _ = samples.indices(len(self))
        offsets = self.offsets[start : max(start, stop) + 1]
        part = slice(offsets[0], offsets[-1])
        return Intervals(self.start_T[part], self.end_T[part], offsets - offsets[0])

    @property
    def times(self) -> np.ndarray:
        """float64 [interval, (start, end)]."""
        return np.stack([self.start_T, self.end_T], axis=1)

    @property
    def lengths(self) -> np.ndarray:
        """int64 [sample], how many each has."""
        return np.diff(self.offsets)

    @property
    def samples(self) -> np.ndarray:
        """int64 [interval], the sample that each belongs to."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def shifted(self, by_K: np.ndarray) -> "Intervals":
        """All of a sample later by so many seconds."""
        by_T = np.repeat(by_K, self.lengths)
        return Intervals(self.start_T + by_T, self.end_T + by_T, self.offsets)


def flat_lists(lists: Any) -> tuple[np.ndarray, Any]:
    """int64 [row + 1] offsets from 0 and what all lists of an Arrow column hold, one after the other; null holds none.

    Nothing is copied unless a null has entries under it.
    """
    lengths = lists.value_lengths().fill_null(0).to_numpy()
    offsets = np.cumsum(np.concatenate([[0], lengths]), dtype=np.int64)
    if not len(lists):
        return offsets, lists.values.slice(0, 0)
    first, last = lists.offsets[0].as_py(), lists.offsets[-1].as_py()
    return offsets, lists.values.slice(first, last - first) if last - first == offsets[-1] else lists.flatten()


def _are_pairs(spans: Any) -> bool:
    is_list = pa.types.is_fixed_size_list(spans.type) or pa.types.is_list(spans.type)
    return is_list and bool((pc.list_value_length(spans).fill_null(0).to_numpy() == 2).all())


def floats(column: Any) -> np.ndarray:
    """float64 of an Arrow column of numbers, NaN where null."""
    return np.asarray(column.to_numpy(zero_copy_only=False), np.float64)
