"""A GPU that failed: unlike an input that a model cannot take, it takes nothing more in this process."""

from features.encoders.memory import is_out_of_memory
from features.errors import EncoderError


def is_gpu_failure(error: BaseException) -> bool:
    """Whether CUDA itself failed, as where a kernel reads beyond its memory; torch has a type of its own for that,
    under which it may also tell that memory ran out."""
    return type(error).__name__ == "AcceleratorError" and not is_out_of_memory(error)


def gpu_failure(error: BaseException) -> EncoderError:
    """What the user is told of it. The sample that did it cannot be known: kernels run on after a call returns."""
    said = str(error).strip().partition("\n")[0]
    return EncoderError(
        f"the GPU failed, and takes no more batches in this process: {said}: run again, which goes on from the shards "
        "that are finished; if that fails as well set embed.device to 'cpu', where a sample that a model cannot take "
        "is told from the others and rejected"
    )
