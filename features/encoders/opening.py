"""Opening a session where a model is to run: on a CPU, or on every GPU."""

import os
import pickle

from features.encoders.base import Encoder
from features.encoders.gpu import gpu_failure, is_refusal
from features.encoders.session import Session

_THREADS_A_GPU = 2  # one fills and copies its batch while the other's is computed


def open_session(encoder: Encoder, device: str, *, threads: int) -> Session:
    """A session over the model, loaded: on a CPU so many threads run one copy of it, and each GPU has its own, run by
    two. Raises EncoderError if a GPU failed."""
    if device != "cuda":
        encoder.load(device)
        return Session([encoder] * threads, num_decoders=threads, is_cpu=True)
    import torch

    # Without it recurrent networks may round anew each time.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    copies = [pickle.loads(pickle.dumps(encoder)) for _ in range(max(1, torch.cuda.device_count()))]
    try:
        for index, copy in enumerate(copies):
            copy.load(f"cuda:{index}")
    except RuntimeError as error:
        if is_refusal(error):
            raise gpu_failure(error) from error
        raise
    return Session(copies * _THREADS_A_GPU, num_decoders=max(threads, len(os.sched_getaffinity(0))))
