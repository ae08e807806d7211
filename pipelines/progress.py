"""How far a job is: workers leave small counts beside their output, the driver adds them up and shows them."""

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from features.shards import replacing

_REPORT_EVERY_S = 0.5
_PLAIN_EVERY_S = 10.0


class ShardProgress:
    """Counts of one shard in work, kept in a file that any driver sharing the folder can read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._num_done = 0
        self._num_rejects = 0
        self._reported_s = 0.0

    def add(self, num_done: int, num_rejects: int) -> None:
        self._num_done += num_done
        self._num_rejects += num_rejects
        if time.monotonic() - self._reported_s >= _REPORT_EVERY_S:
            self.report()

    def report(self) -> None:
        self._reported_s = time.monotonic()
        with replacing(self._path) as temporary:
            temporary.write_text(f"{self._num_done} {self._num_rejects}")


@contextmanager
def watch_progress(label: str, paths: Sequence[Path], num_samples: int) -> Iterator[None]:
    """Show done, total, samples a second and rejects while the block runs: a bar on a terminal, else plain lines."""
    console = Console(stderr=True)
    stop = threading.Event()
    show = _show_bar if console.is_terminal else _show_lines
    watcher = threading.Thread(target=show, args=(label, paths, num_samples, stop, console), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()


def _read_counts(paths: Sequence[Path]) -> tuple[int, int]:
    num_done = num_rejects = 0
    for path in paths:
        try:
            done, rejects = path.read_text().split()
        except FileNotFoundError:
            continue
        num_done += int(done)
        num_rejects += int(rejects)
    return num_done, num_rejects


def _show_bar(label: str, paths: Sequence[Path], total: int, stop: threading.Event, console: Console) -> None:
    columns = (
        TextColumn("{task.description:<14}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.1f} samples/s  {task.fields[rejects]} rejects"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar: TaskID = progress.add_task(label, total=total, rate=0.0, rejects=0)
        started_s = time.monotonic()
        while True:
            stopped = stop.wait(_REPORT_EVERY_S)
            num_done, num_rejects = _read_counts(paths)
            rate = num_done / max(time.monotonic() - started_s, 1e-9)
            progress.update(bar, completed=num_done, rate=rate, rejects=num_rejects)
            if stopped:
                return


def _show_lines(label: str, paths: Sequence[Path], total: int, stop: threading.Event, console: Console) -> None:
    started_s = time.monotonic()
    while True:
        stopped = stop.wait(_PLAIN_EVERY_S)
        num_done, num_rejects = _read_counts(paths)
        rate = num_done / max(time.monotonic() - started_s, 1e-9)
        sys.stderr.write(f"{label}: {num_done}/{total} samples, {rate:.1f} samples/s, {num_rejects} rejects\n")
        if stopped:
            return
