"""What a process needs that makes shards for Beam."""

import ctypes
import os
import sys
from functools import cache, partialmethod

from apache_beam.runners.worker.statesampler import StateSampler

_PERIOD_MS = 10


def limit_threads() -> None:
    """One thread each for torch and OpenCV, since several shards share the cores, and image buffers that stay with
    the process instead of going back to the kernel each time.

    Neither is imported for it: what a worker imports later reads the environment.
    """
    os.environ.update(OMP_NUM_THREADS="1", OPENCV_FOR_THREADS_NUM="1")
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(1)
    if sys.platform == "linux":
        trim_threshold, mmap_threshold = -1, -3
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_threshold, 1 << 26)
        libc.mallopt(trim_threshold, 1 << 28)


@cache
def sample_often() -> None:
    """Have Beam's samplers in this process look every 10 ms and not every 200.

    The thread that samples sleeps in between, and a bundle ends only when it wakes: a job of a second or more took
    0.1 s longer on the average. It needs no interpreter's lock to wake, and takes no time that could be measured. Beam
    has no option for it.
    """
    StateSampler.__init__ = partialmethod(StateSampler.__init__, sampling_period_ms=_PERIOD_MS)
