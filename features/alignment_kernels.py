"""The loops that put vectors on other intervals, compiled.

Each target is computed by itself, in float64 and in the order of its links, so nothing depends on how work is shared.

A link says that a source counts for a target: those of target t are links[t] to links[t + 1] in source_L.
"""

import numpy as np
from numba import types

from features.compiling import compiled

_SECONDS = types.Array(types.float64, 1, "C", readonly=True)
_PLACES = types.Array(types.int64, 1, "C", readonly=True)
_COMBINED = [  # vectors are float32 as the store has them, or float64
    (types.Array(number, 2, "C", readonly=True), _PLACES, _PLACES, _SECONDS, types.boolean, types.float32[:, ::1])
    for number in (types.float32, types.float64)
]


@compiled((_SECONDS, _SECONDS, _PLACES, _SECONDS, _SECONDS, _PLACES, types.float64), nogil=True)
def link_overlaps(
    start_S: np.ndarray,
    end_S: np.ndarray,
    offsets: np.ndarray,
    target_start_T: np.ndarray,
    target_end_T: np.ndarray,
    target_offsets: np.ndarray,
    least_s: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The sources that overlap each target for more than least_s seconds: links, source_L and float64 overlap_L.

    start_S: rising within each sample; offsets, target_offsets: int64 [sample + 1]. NaN in a target overlaps nothing.
    """
    reach_S = end_S.copy()  # the latest end so far: a source after one that reaches a target may have ended before it
    for sample in range(len(offsets) - 1):
        for source in range(offsets[sample] + 1, offsets[sample + 1]):
            reach_S[source] = max(reach_S[source], reach_S[source - 1])
    links = np.zeros(len(target_start_T) + 1, np.int64)
    source_L, overlap_L = np.empty(0, np.int64), np.empty(0)
    for is_counted in (False, True):
        if is_counted:
            links = np.cumsum(links)
            source_L, overlap_L = np.empty(links[-1], np.int64), np.empty(links[-1])
        link = 0
        for sample in range(len(offsets) - 1):
            first, stop = offsets[sample], offsets[sample + 1]
            for target in range(target_offsets[sample], target_offsets[sample + 1]):
                start, end = target_start_T[target], target_end_T[target]
                for source in range(first + np.searchsorted(reach_S[first:stop], start, side="right"), stop):
                    if not start_S[source] < end:
                        break
                    overlap_s = min(end_S[source], end) - max(start_S[source], start)
                    if overlap_s > least_s:
                        if is_counted:
                            source_L[link], overlap_L[link] = source, overlap_s
                        else:
                            links[target + 1] += 1
                        link += 1
    return links, source_L, overlap_L


@compiled((_SECONDS, _PLACES, _SECONDS, _PLACES), nogil=True)
def find_neighbours(
    middle_S: np.ndarray, offsets: np.ndarray, target_middle_T: np.ndarray, target_offsets: np.ndarray
) -> np.ndarray:
    """int64 [target, 2], the sources with the last middle up to the target's and with the first one after it.

    middle_S: rising within each sample. Of several sources with one middle the first counts; before the first and after
    the last middle both are the one that there is, and in a sample without sources both are -1.
    """
    source_T2 = np.full((len(target_middle_T), 2), -1)
    for sample in range(len(offsets) - 1):
        first, stop = offsets[sample], offsets[sample + 1]
        middles = middle_S[first:stop]
        for target in range(target_offsets[sample], target_offsets[sample + 1] if first < stop else 0):
            num_before = np.searchsorted(middles, target_middle_T[target], side="right")
            before = np.searchsorted(middles, middles[max(num_before - 1, 0)], side="left")
            source_T2[target, 0] = first + before
            source_T2[target, 1] = first + (num_before if num_before < len(middles) else before)
    return source_T2


@compiled(*_COMBINED, nogil=True)
def combine(
    vectors_VD: np.ndarray,
    links: np.ndarray,
    vector_L: np.ndarray,
    weight_L: np.ndarray,
    is_max: bool,
    values_TD: np.ndarray,
) -> None:
    """Write the weighted mean, or the largest number of each dimension, of the vectors linked to each target.

    vector_L: int64 [link], places in vectors_VD; weight_L: above 0. A number that is NaN makes NaN. A target without
    links is left as it is.
    """
    dim = vectors_VD.shape[1]
    sum_D = np.empty(dim)
    for target in range(len(links) - 1):
        total, sum_D[:] = (1.0, -np.inf) if is_max else (0.0, 0.0)
        for link in range(links[target], links[target + 1]):
            vector_D, weight = vectors_VD[vector_L[link]], weight_L[link]
            if is_max:
                for place in range(dim):
                    if vector_D[place] > sum_D[place] or np.isnan(vector_D[place]):
                        sum_D[place] = vector_D[place]
            else:
                total += weight
                for place in range(dim):
                    sum_D[place] += weight * vector_D[place]
        if links[target] < links[target + 1]:
            for place in range(dim):
                values_TD[target, place] = sum_D[place] / total
