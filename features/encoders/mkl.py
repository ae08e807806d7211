"""MKL as torch brings it, for loops that are compiled: between two products they need not go back to Python."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import torch

_LIBRARY = Path(torch.__file__).with_name("lib") / "libtorch_cpu.so"
_CALLED = ("cblas_sgemm_compute", "cblas_sgemm_batch", "cblas_sgemm_pack", "cblas_sgemm_pack_get_size")
ROWS = 256  # of a batch, for which weights are laid out: MKL wants to know, and lays them out the same for any

# What MKL calls them.
ROW_MAJOR, PLAIN, TRANSPOSED, PACKED, _SECOND = 101, 111, 112, 151, 162


def is_found() -> bool:
    """Whether it is there to be called; compiled loops find it from then on."""
    if not _LIBRARY.exists():  # of another system than Linux
        return False
    from llvmlite import binding

    binding.load_library_permanently(str(_LIBRARY))
    return all(binding.address_of_symbol(name) for name in _CALLED)


def pack(weights_OI: np.ndarray) -> np.ndarray:
    """The weights of a linear layer, laid out as the processor multiplies rows by them: the bytes that MKL wants.

    weights_OI: float32, contiguous.
    """
    library = ctypes.CDLL(str(_LIBRARY))
    library.cblas_sgemm_pack_get_size.restype = ctypes.c_size_t
    num_out, num_in = weights_OI.shape
    num_bytes = library.cblas_sgemm_pack_get_size(_SECOND, ROWS, num_out, num_in)
    packed: np.ndarray = torch.empty(num_bytes, dtype=torch.uint8).numpy()  # torch's begin where a cache line does
    weights, factor = ctypes.c_void_p(weights_OI.ctypes.data), ctypes.c_float(1)
    sizes = (ROWS, num_out, num_in)
    library.cblas_sgemm_pack(
        ROW_MAJOR, _SECOND, TRANSPOSED, *sizes, factor, weights, num_in, ctypes.c_void_p(packed.ctypes.data)
    )
    return packed
