"""One way to encode, in a process of its own: it prepares, runs once on a few samples, then is timed.

Run by embed.py: python embed_worker.py WAY TASK MEDIA FOLDER; it prints one line of JSON.
"""

import importlib
import json
import os
import resource
import sys
import time
from pathlib import Path

import numpy as np

from encoding.busy import GpuWatch
from encoding.tasks import TASKS, media_paths

_WARM_UP = 8  # samples, so that no library is imported while the clock runs


def main() -> None:
    """Time one way over the media, and leave its vectors in FOLDER/vectors.npy."""
    way, task_name, media, folder_name = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    task, folder = TASKS[task_name], Path(folder_name)
    paths = media_paths(Path(media))
    try:
        kind = importlib.import_module(f"encoding.{way}").Way
    except ModuleNotFoundError as error:
        print(json.dumps({"not_installed": error.name}), file=answers, flush=True)
        return
    for name in ("warm", "timed"):
        (folder / name).mkdir(parents=True)
    kind(task, paths[:_WARM_UP], folder / "warm").run()
    model_bytes = _resident_bytes()  # of the model, its libraries and what they keep
    timed = kind(task, paths, folder / "timed")
    with GpuWatch(task.device) as gpu:
        started_s = time.monotonic()
        vectors = timed.run()
        seconds = time.monotonic() - started_s
    if vectors is not None:
        np.save(folder / "vectors.npy", vectors)
    peak_bytes = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {"seconds": seconds, "peak_bytes": peak_bytes, "model_bytes": model_bytes, "busy_percent": gpu.percent}
    print(json.dumps(found), file=answers, flush=True)


def _resident_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


if __name__ == "__main__":
    main()
