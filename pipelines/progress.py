"""How far a job is: workers leave small counts beside their output, the driver adds them up and shows them."""

import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

_REPORT_EVERY_S = 0.5
_PLAIN_EVERY_S = 10.0


class ShardProgress:
    """Counts of one shard in work, kept in a file that any driver sharing the folder can read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._num_done = 0
        self._num_rejects = 0
        self._reported_s = time.monotonic()

    def add(self, num_done: int, num_rejects: int) -> None:
        self._num_done += num_done
        self._num_rejects += num_rejects
        if time.monotonic() - self._reported_s >= _REPORT_EVERY_S:
            self.report()

    def report(self) -> None:
        """Leave the counts in the file, replaced as a whole; it need not outlive a crash, so nothing is synced."""
        self._reported_s = time.monotonic()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}-{threading.get_ident()}")
        temporary.write_text(f"{self._num_done} {self._num_rejects}")
        os.replace(temporary, self._path)


@contextmanager
def watch_progress(label: str, paths: Sequence[Path], num_samples: int) -> Iterator[None]:
    """Show done, total, samples a second and rejects while the block runs: a bar on a terminal, else plain lines.

    paths: of the shards' progress; a shard is finished when its record lies beside it, under the suffix .json.
    """
    console = Console(stderr=True)
    stop = threading.Event()
    show = _show_bar if console.is_terminal else _show_lines
    watcher = threading.Thread(target=show, args=(label, Counts(paths), num_samples, stop, console), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()


class Counts:
    """The sum of the shards' progress. Of many thousands of shards only those in work are read: one that is finished
    changes no more and is read once, and which are begun is told by one listing of their folder."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._unfinished: dict[Path, set[str]] = {}
        for path in paths:
            self._unfinished.setdefault(path.parent, set()).add(path.name)
        self._num_done = 0  # of the finished ones
        self._num_rejects = 0

    def read(self) -> tuple[int, int]:
        """How many samples are done and how many things were rejected by now."""
        in_work = [counts for folder in self._unfinished for counts in self._read_folder(folder)]
        return (
            self._num_done + sum(num_done for num_done, _ in in_work),
            self._num_rejects + sum(num_rejects for _, num_rejects in in_work),
        )

    def _read_folder(self, folder: Path) -> list[tuple[int, int]]:
        """The counts of the shards in work; those that are found finished are added up for good."""
        present = set(os.listdir(folder)) if folder.exists() else set()
        in_work = []
        for name in self._unfinished[folder] & present:
            num_done, num_rejects = map(int, (folder / name).read_text().split())
            if Path(name).with_suffix(".json").name in present:
                self._unfinished[folder].remove(name)
                self._num_done += num_done
                self._num_rejects += num_rejects
            else:
                in_work.append((num_done, num_rejects))
        return in_work


def _show_bar(label: str, counts: Counts, total: int, stop: threading.Event, console: Console) -> None:
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
            num_done, num_rejects = counts.read()
            rate = num_done / max(time.monotonic() - started_s, 1e-9)
            progress.update(bar, completed=num_done, rate=rate, rejects=num_rejects)
            if stopped:
                return


def _show_lines(label: str, counts: Counts, total: int, stop: threading.Event, console: Console) -> None:
    started_s = time.monotonic()
    while True:
        stopped = stop.wait(_PLAIN_EVERY_S)
        num_done, num_rejects = counts.read()
        rate = num_done / max(time.monotonic() - started_s, 1e-9)
        sys.stderr.write(f"{label}: {num_done}/{total} samples, {rate:.1f} samples/s, {num_rejects} rejects\n")
        if stopped:
            return
