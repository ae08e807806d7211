"""Any number of views on one time base: ragged, padded, as an Arrow table or as tensors."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from features.columns import column_name
from features.intervals import Intervals
from features.writing import vector_column


@dataclass(frozen=True)
class Aligned:
    """The targets of all samples, those of each after those of the one before, and each view's vectors at them.

    keys: the samples; targets: their intervals in seconds from the start of the sample, NaN without a clock; words: the
    texts of the targets, where they are words. values: by view, float32 [target, dim], NaN where nothing covers the
    target; masks: by view, bool [target], where something does.
    """

    keys: Sequence[str]
    targets: Intervals
    values: Mapping[str, np.ndarray]
    masks: Mapping[str, np.ndarray]
    words: pa.Array | None = None

    @property
    def offsets(self) -> np.ndarray:
        """int64 [key + 1], where the targets of each key begin."""
        return self.targets.offsets

    @property
    def times(self) -> np.ndarray:
        """float64 [target, (start, end)], seconds from the start of the sample."""
        return self.targets.times

    def __len__(self) -> int:
        """How many keys there are."""
        return len(self.keys)

    def __getitem__(self, place: int) -> "Aligned":
        """What belongs to one key alone, over the same memory. Raises IndexError if there are not as many keys."""
        place = range(len(self))[place]
        part = slice(*self.offsets[place : place + 2].tolist())
        return Aligned(
            self.keys[place : place + 1],
            self.targets[place : place + 1],
            {name: values_TD[part] for name, values_TD in self.values.items()},
            {name: mask_T[part] for name, mask_T in self.masks.items()},
            None if self.words is None else self.words[part],
        )

    def padded(self, length: int | None = None, *, fill: float = math.nan) -> "Padded":
        """Each key's targets as one row of `length` places, by default as many as the longest key has.

        What is more is cut off at the end: the first `length` targets stay. fill: what stands in the values where a
        mask is false; 0.0 for training. Raises ValueError for a length below 0.
        """
        if length is not None and length < 0:
            raise ValueError(f"length is {length}; it must be 0 or more")
        all_K = self.targets.lengths
        longest = int(all_K.max(initial=0)) if length is None else length
        is_there_KL = np.arange(longest) < all_K[:, None]
        is_kept_T = np.arange(all_K.sum()) - np.repeat(self.offsets[:-1], all_K) < longest

        def spread(flat: np.ndarray, empty: float) -> np.ndarray:
            rows = np.full((*is_there_KL.shape, *flat.shape[1:]), empty, flat.dtype)
            rows[is_there_KL] = flat[is_kept_T]
            return rows

        masks = {name: spread(mask_T, False) for name, mask_T in self.masks.items()}
        values = {name: spread(values_TD, fill) for name, values_TD in self.values.items()}
        for name, mask_KL in masks.items():
            values[name][~mask_KL] = fill
        return Padded(self.keys, np.minimum(all_K, longest), spread(self.times, math.nan), values, masks)

    def to_arrow(self) -> pa.Table:
        """A row a key: key; lists start_s, end_s and, of words, words; and for each view a list of vectors, of which
        those that are masked are null. A view that is called like a column of samples has _embedding after its name.
        """
        offsets = pa.array(self.offsets.astype(np.int32))
        flat: dict[str, Any] = {"start_s": pa.array(self.targets.start_T), "end_s": pa.array(self.targets.end_T)}
        if self.words is not None:
            flat["words"] = self.words
        for name, values_TD in self.values.items():
            flat[column_name(name)] = vector_column(values_TD, ~self.masks[name])
        lists = {name: pa.ListArray.from_arrays(offsets, column) for name, column in flat.items()}
        return pa.table({"key": pa.array(self.keys, pa.string()), **lists})

    def to_torch(self) -> dict[str, Any]:
        """keys, and tensors over the same memory: offsets, times; values and masks, each by view."""
        return _tensors(self.keys, {"offsets": self.offsets, "times": self.times}, self.values, self.masks)


@dataclass(frozen=True)
class Padded:
    """What Aligned.padded() gives.

    lengths: int64 [key], how many targets of each key are there; times: float64 [key, length, (start, end)], NaN behind
    the last. values: by view, float32 [key, length, dim]; masks: by view, bool [key, length].
    """

    keys: Sequence[str]
    lengths: np.ndarray
    times: np.ndarray
    values: Mapping[str, np.ndarray]
    masks: Mapping[str, np.ndarray]

    def to_torch(self) -> dict[str, Any]:
        """keys, and tensors over the same memory: lengths, times; values and masks, each by view."""
        return _tensors(self.keys, {"lengths": self.lengths, "times": self.times}, self.values, self.masks)


def _tensors(
    keys: Sequence[str],
    arrays: dict[str, np.ndarray],
    values: Mapping[str, np.ndarray],
    masks: Mapping[str, np.ndarray],
) -> dict[str, Any]:
    import torch

    def all_of(named: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
        return {name: torch.from_numpy(array) for name, array in named.items()}

    return {"keys": list(keys), **all_of(arrays), "values": all_of(values), "masks": all_of(masks)}
