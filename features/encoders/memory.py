"""Running out of memory: how libraries tell of it, and how the user is told."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from features.errors import EncoderError
from features.view import StoredView, View

_SAID = (
    # Of torch, on a CPU, by itself and through the kernel, or for more than it can count; and of OpenCV.
    *("can't allocate memory", "Cannot allocate memory", "size calculation overflowed", "Insufficient memory"),
    # Of CUDA, beside torch's own allocator: for pinned memory, and for what its libraries work in.
    *("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "ALLOCATION_FAILED"),
    *("CUBLAS_STATUS_NOT_INITIALIZED", "CUFFT_ALLOC_FAILED", "[CUDA]: out of memory"),
    "unable to find an engine to execute this computation",  # of cuDNN, when there is no room for any of them to work
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory did not suffice, at once or for what the error came from; torch has a type of its own for a
    GPU's, and none for the CPU's."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if any(words in str(error) for words in _SAID):
        return True
    return error.__cause__ is not None and is_out_of_memory(error.__cause__)


def memory_failures() -> tuple[type[Exception], ...]:
    """What is raised, among other things, where memory does not suffice; OpenCV has an error that is nothing more
    special than an Exception, and is asked for it only where it is in use."""
    opencv = sys.modules.get("cv2")
    return (MemoryError, RuntimeError, ValueError, OSError, EncoderError, *([opencv.error] if opencv else []))


@contextmanager
def within_memory(view: View | StoredView, device: str) -> Iterator[None]:
    """Raise EncoderError if the block, which loads the view's model, takes more memory than there is."""
    try:
        yield
    except memory_failures() as error:
        if not is_out_of_memory(error):
            raise
        options = f" with options {view.options}" if view.options else ""
        instead = "" if device == "cpu" else ", or set embed.device to 'cpu'"
        raise EncoderError(
            f"view {view.name!r}: to load encoder {view.encoder!r}{options} takes more memory than {device!r} has: "
            f"choose a smaller model or smaller options{instead}"
        ) from error
