import os
import subprocess
import sys
from pathlib import Path

import cv2
import torch
from apache_beam.runners.worker.statesampler import StateSampler
from apache_beam.utils.counters import CounterFactory

from pipelines.process import limit_threads, sample_often

ROOT = Path(__file__).parents[2]
_IMPORTED_LATER = """
import sys
from pipelines.process import limit_threads
limit_threads()
assert not {"cv2", "torch"} & sys.modules.keys()
import cv2, torch
print(cv2.getNumThreads(), torch.get_num_threads())
"""


def test_limit_threads_holds_for_what_is_imported() -> None:
    torch.set_num_threads(2)
    cv2.setNumThreads(2)
    limit_threads()
    assert (torch.get_num_threads(), cv2.getNumThreads()) == (1, 1)


def test_limit_threads_imports_nothing_and_holds_for_what_is_imported_later() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2", "OPENCV_FOR_THREADS_NUM": "2"}
    command = [sys.executable, "-c", _IMPORTED_LATER]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert ended.stdout == "1 1\n"


def test_sample_often_holds_for_the_samplers_that_beam_makes() -> None:
    sample_often()
    assert StateSampler("step", CounterFactory()).sampling_period_ms == 10
