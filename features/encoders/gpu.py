"""A GPU that failed: unlike an input that a model cannot take, it takes nothing more in this process."""

import sys

from features.encoders.memory import is_out_of_memory
from features.errors import EncoderError


def has_gpu_failed() -> bool:
    """Whether a GPU that this process uses takes nothing more.

    It is asked, since what libraries raise does not tell: the same failure has many types and texts, and an input that
    is only too large for a kernel has that of a failure.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return False
    try:
        for index in range(torch.cuda.device_count()):
            torch.cuda.synchronize(index)
    except RuntimeError as error:
        return not is_out_of_memory(error)
    return False


def is_refusal(error: BaseException) -> bool:
    """Whether what a model's loading raised came from CUDA and not from the model, as where a GPU is too old for it."""
    return type(error).__name__ == "AcceleratorError" and not is_out_of_memory(error)


def gpu_failure(error: BaseException) -> EncoderError:
    """What the user is told of it. The sample that did it cannot be known: kernels run on after a call returns."""
    said = str(error).strip().partition("\n")[0]
    return EncoderError(
        f"the GPU failed, and takes no more batches in this process: {said}: run again, which goes on from the shards "
        "that are finished; if that fails as well set embed.device to 'cpu', where a sample that a model cannot take "
        "is told from the others and rejected"
    )
