"""A loop over stored float16 numbers, compiled for the processor it runs on.

Torch has to widen embeddings to float32 before it multiplies them, which takes longer than a product with one query.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
from numba import njit, types

_NUMBERS = types.Array(types.uint16, 1, "C", readonly=True)
_PLACES = types.Array(types.int64, 1, "C", readonly=True)
_VECTOR = types.Array(types.float32, 1, "C", readonly=True)


def _compiled(*signature: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Compile a loop that holds no lock of Python's, and keep it for other processes where there is a place for it."""

    def compile_loop(loop: Callable[..., None]) -> Callable[..., None]:
        # Sums may be taken in any order, so that they fill the processor's registers.
        compiled = njit(loop, nogil=True, fastmath={"reassoc", "contract", "nsz"})
        with suppress(RuntimeError):  # neither the folder of this file nor one of the user's can be written
            compiled.enable_caching()
        compiled.compile(signature)
        return compiled

    return compile_loop


@njit
def _widen(bits: np.uint16) -> np.float32:
    """A finite float16 as float32, exactly. By whole numbers: not all processors have an instruction for it."""
    number = np.uint32(bits)
    # Exponents are biased by 15 in float16, by 127 in float32.
    size = np.uint32(((number & np.uint32(0x7FFF)) << np.uint32(13)) + np.uint32(112 << 23)).view(np.float32)
    # Below 2**-14 a float16 has no leading 1: what was added for it goes again. Above, the second is the larger one.
    size = np.float32(min(size, size + size - np.float32(2.0**-14)))
    sign = np.uint32((number << np.uint32(16)) & np.uint32(0x80000000))
    return np.uint32(size.view(np.uint32) | sign).view(np.float32)


@_compiled(_NUMBERS, _PLACES, _VECTOR, types.float32[::1])
def multiply_rows(numbers: np.ndarray, places_B: np.ndarray, query_D: np.ndarray, products_B: np.ndarray) -> None:
    """Write the products of vectors with a query; of one that is not finite, any number.

    numbers: uint16, the bits of float16; places_B: int64 [row], where the vectors begin there.
    """
    half = (len(places_B) + 1) // 2
    for first in range(half):
        # Two at a time, from places that are far apart: the processor fetches memory ahead for both.
        second = min(first + half, len(places_B) - 1)
        first_D = numbers[places_B[first] : places_B[first] + len(query_D)]
        second_D = numbers[places_B[second] : places_B[second] + len(query_D)]
        first_product, second_product = np.float32(0), np.float32(0)
        for place in range(len(query_D)):
            first_product += _widen(first_D[place]) * query_D[place]
            second_product += _widen(second_D[place]) * query_D[place]
        products_B[first], products_B[second] = first_product, second_product
