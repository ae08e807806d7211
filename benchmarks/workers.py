"""Processes that hold one library each, and what they answer."""

import json
import os
import select
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rows import Rows

_WORKER = Path(__file__).parent / "peer_worker.py"
_LONGEST_S = 600
# The same for all. glibc would give large buffers back to the kernel each time; threads of OpenMP gain nothing on one
# batch, and wait for each other where processors are shared. Threads of a library's own stay as it sets them.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": str(64 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
    "HF_HUB_OFFLINE": "1",
    "LITDATA_DISABLE_VERSION_CHECK": "1",
}


@dataclass(frozen=True)
class Missing:
    """Why there is no figure: kind is "n/a" for an operation that is not offered, or "failed"."""

    kind: str
    reason: str


class Worker:
    """One library over the rows, in a process of its own."""

    def __init__(self, module: str, rows: Rows, folder: Path, *, python: str = sys.executable) -> None:
        self._log = folder.with_suffix(".log")
        command = [python, str(_WORKER), module, str(rows.path), str(rows.num_rows), str(folder)]
        with open(self._log, "a") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, **ENVIRONMENT},
                start_new_session=True,
            )

    def ask(self, do: str, **details: Any) -> float | Missing:
        """The answer to one operation of peer_worker; one that does not come ends the process."""
        answers, requests = self._process.stdout, self._process.stdin
        assert answers is not None
        assert requests is not None
        try:
            requests.write(json.dumps({"do": do, **details}) + "\n")
            requests.flush()
        except BrokenPipeError:
            self._process.wait()
            return self._ended()
        if not select.select([answers], [], [], _LONGEST_S)[0]:
            self.close()
            return Missing("failed", f"no answer to {do} within {_LONGEST_S} s")
        line = answers.readline()
        if not line:
            self._process.wait()
            return self._ended()
        answer = json.loads(line)
        if "value" in answer:
            return answer["value"]
        return Missing("n/a", answer["not_offered"]) if "not_offered" in answer else Missing("failed", answer["failed"])

    def close(self) -> None:
        """End the process and those that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _ended(self) -> Missing:
        said = self._log.read_text(errors="replace").strip().splitlines()
        return Missing("failed", f"its process ended with {self._process.returncode}: {said[-1] if said else ''}"[:200])
