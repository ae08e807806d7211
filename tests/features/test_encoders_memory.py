"""Running out of memory: what counts as such, and what is said of a model that takes too much."""

import numpy as np
import pytest
import torch

from features.encoders.memory import is_out_of_memory, within_memory
from features.errors import EncoderError
from features.view import View

VIEW = View(name="image", input="image", encoder="timm:small", options={"size_px": 100_000})
OF_TORCH = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 120000000000 bytes")


def caused(cause: Exception) -> EncoderError:
    error = EncoderError("a folder holds no model that loads")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        *(MemoryError(), OF_TORCH, torch.OutOfMemoryError("CUDA"), caused(OF_TORCH)),
        torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be reported later"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"),
        RuntimeError("GET was unable to find an engine to execute this computation"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    ],
)
def test_is_out_of_memory_knows_what_libraries_raise(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("shapes differ"),
        torch.AcceleratorError("CUDA error: gone"),
        caused(ValueError("no model")),
        OSError(2, "gone"),
    ],
)
def test_is_out_of_memory_is_nothing_else(error: Exception) -> None:
    assert not is_out_of_memory(error)


@pytest.mark.parametrize(("device", "cure"), [("cpu", "smaller options"), ("cuda", "or set embed.device to 'cpu'")])
def test_within_memory_says_which_view_takes_too_much_and_what_to_do(device: str, cure: str) -> None:
    said = r"view 'image': to load encoder 'timm:small' with options {'size_px': 100000} takes more memory than "
    message = f"{said}'{device}' has: choose a smaller model.*{cure}$"
    with pytest.raises(EncoderError, match=message), within_memory(VIEW, device):
        raise OF_TORCH


@pytest.mark.parametrize("side_px", [1 << 28, 1 << 40])
def test_within_memory_knows_torch_by_its_own_errors(side_px: int) -> None:
    """More bytes than a machine addresses, and more than torch counts."""
    with pytest.raises(EncoderError, match="takes more memory"), within_memory(VIEW, "cpu"):
        torch.zeros(1, 3, side_px, side_px)


def test_within_memory_knows_numpy_by_its_own_error() -> None:
    with pytest.raises(EncoderError, match="takes more memory"), within_memory(VIEW, "cpu"):
        np.zeros((1 << 28, 1 << 28), np.float32)


def test_within_memory_lets_every_other_error_through() -> None:
    with pytest.raises(ValueError, match="other"), within_memory(VIEW, "cpu"):
        raise ValueError("other")
