"""Vectors of one time base on another: the definitions, for any number of samples at once.

docs/alignment.md has them as formulas.
"""

from typing import Any, Literal

import numpy as np
import pyarrow as pa

from features.intervals import Intervals, flat_lists

How = Literal["mean", "unweighted", "max", "nearest", "linear"]
HOWS = ("mean", "unweighted", "max", "nearest", "linear")

# CMU-MultimodalSDK 1.2 (mmdatasdk/dataset/dataset.py, align) lets an intersection count if it is longer than 10e-6 s.
_LEAST_UNWEIGHTED_S = 10e-6

_Links = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Offsets [target + 1], then the source and the weight of each link: see features.alignment_kernels."""


def align_intervals(
    vectors: Any, sources: Intervals, targets: Intervals, how: How = "mean"
) -> tuple[np.ndarray, np.ndarray]:
    """Put vectors that belong to the source intervals on the target intervals of the same samples.

    vectors: [source, dim], or an Arrow column with the list of vectors of each sample. how: "mean", weighted by the
    overlap; "unweighted", the mean of all sources that overlap a target by more than 10 us, as CMU-MultimodalSDK
    takes it; "max" of each dimension; "nearest" to the target's middle; "linear" between the sources' middles.
    Returns float32 [target, dim] and bool [target]: whether a source overlaps the target for any time (with
    "unweighted", more than 10 us). Where none does, the values are NaN. A source or target without a clock, or one
    that holds no time, overlaps nothing. Sums are taken in float64; the order of the sources does not matter, but that
    of two that start together.
    Raises ValueError if the numbers of vectors, sources and samples do not agree, or for an unknown how.
    """
    from features.alignment_kernels import combine

    if how not in HOWS:
        raise ValueError(f"how is {how!r}; it must be one of {', '.join(HOWS)}")
    vectors_VD = vector_matrix(vectors)
    if len(vectors_VD) != len(sources.start_T) or len(sources) != len(targets):
        raise ValueError(
            f"{len(vectors_VD)} vectors at {len(sources.start_T)} intervals, of {len(sources)} samples and targets of "
            f"{len(targets)}: a vector has one interval, and sources and targets are of the same samples"
        )
    order_S, ordered = _in_order(sources, sources.start_T)
    links, source_L, weight_L = _link(ordered, targets, how)
    mask_T = np.diff(links) > 0
    if how == "nearest":
        links, source_L, weight_L = _nearest_of(links, source_L, ordered, targets)
    elif how == "linear":
        by_middle_S, ordered = _in_order(ordered, _middles(ordered))
        order_S = order_S[by_middle_S]
        links, source_L, weight_L = _link_neighbours(ordered, targets, mask_T)
    values_TD = np.full((len(mask_T), vectors_VD.shape[1]), np.nan, np.float32)
    combine(vectors_VD, links, order_S[source_L], weight_L, how == "max", values_TD)
    return values_TD, mask_T


def vector_matrix(vectors: Any) -> np.ndarray:
    """[vector, dim], contiguous, in one of the types that the loops are compiled for; float32 is not copied."""
    if isinstance(vectors, pa.ChunkedArray):
        vectors = vectors.combine_chunks()
    if isinstance(vectors, pa.Array):
        _, flat = flat_lists(vectors)
        vectors = flat.flatten().to_numpy(zero_copy_only=False).reshape(-1, flat.type.list_size)
    is_double = vectors.dtype == np.float64
    return np.ascontiguousarray(vectors, np.float64 if is_double else np.float32)


def _middles(intervals: Intervals) -> np.ndarray:
    return 0.5 * (intervals.start_T + intervals.end_T)


def _in_order(sources: Intervals, by_S: np.ndarray) -> tuple[np.ndarray, Intervals]:
    """int64 [source], the sources that hold time, those of each sample by by_S, and their intervals in this order."""
    holds_S, falls = sources.end_T > sources.start_T, np.flatnonzero(by_S[1:] < by_S[:-1]) + 1
    if holds_S.all() and np.isin(falls, sources.offsets).all():
        return np.arange(len(by_S)), sources
    sample_S = sources.samples
    order_S = np.flatnonzero(holds_S)
    order_S = order_S[np.lexsort((by_S[order_S], sample_S[order_S]))]
    offsets = np.searchsorted(sample_S[order_S], np.arange(len(sources) + 1))
    return order_S, Intervals(sources.start_T[order_S], sources.end_T[order_S], offsets)


def _link(sources: Intervals, targets: Intervals, how: How) -> _Links:
    """Each target with the sources that overlap it, by how long or alike."""
    from features.alignment_kernels import link_overlaps

    least_s = _LEAST_UNWEIGHTED_S if how == "unweighted" else 0.0
    links, source_L, overlap_L = link_overlaps(*vars(sources).values(), *vars(targets).values(), least_s)
    return links, source_L, np.ones_like(overlap_L) if how == "unweighted" else overlap_L


def _nearest_of(links: np.ndarray, source_L: np.ndarray, sources: Intervals, targets: Intervals) -> _Links:
    """Of the sources linked to each target one that holds its middle, or else the nearest to it; of several the one
    with the nearest middle, then the first. No source is nearer than all that overlap the target.
    """
    target_L = np.repeat(np.arange(len(links) - 1), np.diff(links))
    start_L, end_L, middle_L = sources.start_T[source_L], sources.end_T[source_L], _middles(targets)[target_L]
    is_beside_L = (middle_L < start_L) | (end_L <= middle_L)
    distance_L = np.maximum(start_L - middle_L, middle_L - end_L).clip(min=0)
    from_middle_L = np.abs(_middles(sources)[source_L] - middle_L)
    nearest_first = np.lexsort((from_middle_L, distance_L, is_beside_L, target_L))
    chosen_L = nearest_first[links[:-1][np.diff(links) > 0]]
    return np.cumsum([0, *(np.diff(links) > 0)]), source_L[chosen_L], np.ones(len(chosen_L))


def _link_neighbours(sources: Intervals, targets: Intervals, mask_T: np.ndarray) -> _Links:
    """Each target that is in the mask with the sources whose middles are about its own; sources: by their middles."""
    from features.alignment_kernels import find_neighbours

    middle_S, middle_T = _middles(sources), _middles(targets)
    source_T2 = find_neighbours(middle_S, sources.offsets, middle_T, targets.offsets)[mask_T]
    before_T, after_T = middle_S[source_T2].T
    width_T = after_T - before_T
    share_T = np.divide(middle_T[mask_T] - before_T, width_T, out=np.zeros_like(width_T), where=width_T > 0)
    weight_T2 = np.stack([1 - share_T, share_T], axis=1)
    counts_T = mask_T.astype(np.int64)
    counts_T[mask_T] = (weight_T2 > 0).sum(axis=1)
    return np.concatenate([[0], np.cumsum(counts_T)]), source_T2[weight_T2 > 0], weight_T2[weight_T2 > 0]
