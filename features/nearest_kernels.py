"""Loops over stored float16 numbers and over scores, compiled for the processor they run on.

Torch has to widen embeddings to float32 before it multiplies them, which takes longer than their product with a query,
and it is slow to multiply with a few.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import config, njit, types
from numba.extending import intrinsic

from features.compiling import compiled

_NUMBERS = types.Array(types.int16, 1, "C", readonly=True)
_PLACES = types.Array(types.int64, 1, "C", readonly=True)
_SCORES = types.float32[:, ::1]  # or vectors of float32
_QUERIES = types.Array(types.float32, 2, "C", readonly=True)


@intrinsic
def _widen_at_once(_: Any, bits: types.Integer) -> tuple[Any, Callable[..., Any]]:
    """A float16 as float32 by the processor's own instruction. Where there is none, the process would end here."""

    def generate(_: Any, builder: ir.IRBuilder, __: Any, values: Sequence[ir.Value]) -> ir.Value:
        return builder.fpext(builder.bitcast(values[0], ir.HalfType()), ir.FloatType())

    return types.float32(bits), generate


@njit()
def _widen_by_steps(bits: np.int16) -> np.float32:
    """A finite float16 as float32, exactly, by instructions that every processor has."""
    wide = np.int32(np.int32(bits) << np.int32(13))
    # Exponents are biased by 15 in float16, by 127 in float32.
    size = np.int32((wide & np.int32(0x0FFFE000)) + np.int32(112 << 23)).view(np.float32)
    # Below 2**-14 a float16 has no leading 1: what was added for it goes again. Above, the second is the larger one.
    size = np.float32(min(size, np.float32(2) * size - np.float32(2.0**-14)))
    return np.int32(size.view(np.int32) | (wide & np.int32(-1 << 31))).view(np.float32)


_is_for_host = not (config.CPU_NAME or config.CPU_FEATURES)  # type: ignore[attr-defined]  # set as it is loaded
_widen: Any = _widen_at_once if _is_for_host and get_host_cpu_features().get("f16c") else _widen_by_steps


# Sums may be taken in any order, so that they fill the processor's registers. No lock of Python's is held.
@compiled(
    (_NUMBERS, _PLACES, _QUERIES, _SCORES),
    nogil=True,
    fastmath={"reassoc", "contract", "nsz"},
)
def multiply_rows(numbers: np.ndarray, places_B: np.ndarray, queries_QD: np.ndarray, products_BQ: np.ndarray) -> None:
    """Write the products of vectors with at least one query; of a vector that is not finite, any number.

    numbers: int16, the bits of float16; places_B: int64 [row], where the vectors begin there.
    """
    num_queries, dim = queries_QD.shape
    wide_D, other_wide_D = np.empty(dim, np.float32), np.empty(dim, np.float32)
    half = (len(places_B) + 1) // 2
    for row in range(half):
        # Two rows at a time, from places that are far apart: the processor fetches memory ahead for both.
        other = min(row + half, len(places_B) - 1)
        row_D = numbers[places_B[row] : places_B[row] + dim]
        other_D = numbers[places_B[other] : places_B[other] + dim]
        product, other_product, query_D = np.float32(0), np.float32(0), queries_QD[0]
        for place in range(dim):
            wide_D[place] = _widen(row_D[place])
            other_wide_D[place] = _widen(other_D[place])
            product += wide_D[place] * query_D[place]
            other_product += other_wide_D[place] * query_D[place]
        products_BQ[row, 0], products_BQ[other, 0] = product, other_product
        for query in range(1, num_queries):
            product, other_product, query_D = np.float32(0), np.float32(0), queries_QD[query]
            for place in range(dim):
                product += wide_D[place] * query_D[place]
                other_product += other_wide_D[place] * query_D[place]
            products_BQ[row, query], products_BQ[other, query] = product, other_product


@compiled((_NUMBERS, _PLACES, _SCORES), nogil=True)
def widen_rows(numbers: np.ndarray, places_B: np.ndarray, wide_BD: np.ndarray) -> None:
    """Write vectors as float32; of one that is not finite, any numbers. numbers, places_B: as above."""
    num_rows, dim = wide_BD.shape
    for row in range(num_rows):
        row_D, wide_D = numbers[places_B[row] : places_B[row] + dim], wide_BD[row]
        for place in range(dim):
            wide_D[place] = _widen(row_D[place])


@compiled((_SCORES, types.float32[::1], types.float32[::1], types.int64[::1]), nogil=True)
def find_above(scores_BQ: np.ndarray, scales_B: np.ndarray, least_Q: np.ndarray, places: np.ndarray) -> int:
    """Write the places in the flat scores that are above the least of their query, once they are scaled; returns how
    many. scales_B: one that is no number lets none pass; places: int64, room for all scores."""
    num_rows, num_queries = scores_BQ.shape
    num_found = 0
    for row in range(num_rows):
        scale, num_above = scales_B[row], 0
        for query in range(num_queries):  # without a branch, so that many are compared at once
            num_above += scores_BQ[row, query] * scale > least_Q[query]
        if num_above:
            for query in range(num_queries):
                if scores_BQ[row, query] * scale > least_Q[query]:
                    places[num_found] = row * num_queries + query
                    num_found += 1
    return num_found
