"""The feature store beside its peers: random access, one key, full scan, training epochs; then how it grows.

All keep the same rows: 200,000 vectors of 768 numbers in float16, with keys and labels. Each library runs in a process
of its own, the rounds of all are interleaved, and a figure is the median of its rounds.

Run from a checkout whose environment has the extras 'bench' and 'test':
python benchmarks/store.py [--quick] [--json] [--only NAME ...] [--peers-venv FOLDER]
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median, mode

from growth import growth
from measures import Measure, at_least, at_most, show
from neighbours import neighbours
from own_environment import python_with
from rows import make_rows
from workers import Missing, Worker

PLAIT, NUMPY = "Plait", "numpy"
MODULES = {
    PLAIT: "plait_store",
    NUMPY: "numpy_map",
    "Lance": "lance_dataset",
    "Lance, samples shuffled": "lance_samples",
    "Parquet + DuckDB": "duckdb_parquet",
    "Hugging Face datasets": "hugging_face",
    "webdataset": "webdataset_tars",
    "MosaicML Streaming": "mosaic_streaming",
    "LitData": "litdata_chunks",
    "Feast (SQLite)": "feast_sqlite",
}
QUICK = [PLAIT, NUMPY, "Lance", "Hugging Face datasets"]  # those that come nearest
# It wants numpy < 2.2 and transformers < 5; from filelock 3.20 on, its locks fail in workers that were forked.
APART = {"MosaicML Streaming": ["mosaicml-streaming==0.13.0", "filelock==3.19.1"]}

GET, ONE, SCAN = "get of 256 keys", "one key", "full scan"
EPOCH, EPOCH_2 = "epoch, 1 process", "epoch, 2 workers"
_UNITS = {GET: ("us", 1e6), ONE: ("us", 1e6), SCAN: ("GB/s", 1e-9), **dict.fromkeys((EPOCH, EPOCH_2), ("rows/s", 1.0))}
_TIMES = (GET, ONE)  # less is better; of the others more
_SLOW_S = 10  # what takes longer in one round is not asked again


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20,000 rows, short rounds, fewer libraries and stores")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--only", nargs="+", choices=MODULES, help="these libraries alone")
    parser.add_argument(
        "--peers-venv",
        type=Path,
        default=Path(tempfile.gettempdir()) / "plait-peers-venv",
        help="the environment of the peer that cannot be installed beside Plait; made if it is missing, and kept",
    )
    options = parser.parse_args()
    names = options.only or (QUICK if options.quick else list(MODULES))
    with tempfile.TemporaryDirectory() as folder:
        comparison = Comparison(Path(folder), names, options.peers_venv, quick=options.quick)
        comparison.run()
        for measure in comparison.measures():
            show(measure, as_json=options.json)
        if PLAIT in names:
            for measure in neighbours(Path(folder, MODULES[PLAIT]), comparison.rows):
                show(measure, as_json=options.json)
        comparison.remove()
        if PLAIT in names:
            for measure in growth(Path(folder), quick=options.quick):
                show(measure, as_json=options.json)
    if not options.json:
        print(comparison.table())


class Comparison:
    """All libraries over the same rows; what they did is in found: (operation, library) -> one figure a round."""

    def __init__(self, folder: Path, names: list[str], peers_venv: Path, *, quick: bool) -> None:
        self.folder = folder
        self.rounds = 2 if quick else 5
        self.budget_s = 1.0 if quick else 8.0
        self.rows = make_rows(folder / "rows", 20_000 if quick else 200_000)
        self.missing: dict[str, Missing] = {}
        self.found: dict[tuple[str, str], list[float] | Missing] = {}
        self.pythons = {name: self._python(name, peers_venv) for name in names}

    def _python(self, name: str, peers_venv: Path) -> str:
        if name in APART:
            try:
                return python_with(peers_venv, APART[name])
            except (OSError, subprocess.CalledProcessError) as error:
                self.missing[name] = Missing("failed", f"cannot be installed: {error}")
        return sys.executable

    def run(self) -> None:
        """Write with all libraries, then time them, each operation in turn over all libraries, round by round."""
        workers = self._workers(list(self.pythons))
        self._each(workers, "write", "write")
        self._each(workers, "open", "open")
        self._each(workers, "checksum", "checksum")
        self._check_vectors(workers)
        # First, since it also brings all pages into the memory of each process that maps its files.
        self._rounds(workers, SCAN, "scan", budget_s=self.budget_s / 2)
        self._rounds(workers, GET, "get")
        self._rounds(workers, ONE, "one")
        self._rounds(workers, EPOCH, "epoch", num_workers=0, budget_s=self.budget_s)
        self._close(workers)
        # In processes of their own, for not all libraries can go from one process to workers.
        workers = self._workers([name for name in self.pythons if self._has_loader(name)])
        self._each(workers, "open", "open")
        self._rounds(workers, EPOCH_2, "epoch", num_workers=2, budget_s=self.budget_s)
        self._close(workers)

    def remove(self) -> None:
        """Make room on the disk."""
        for name in self.pythons:
            shutil.rmtree(self.folder / MODULES[name], ignore_errors=True)

    def _has_loader(self, name: str) -> bool:
        """Whether the library has a loader."""
        return isinstance(self.found.get((EPOCH, name)), list)

    def _workers(self, names: list[str]) -> dict[str, Worker]:
        return {
            name: Worker(MODULES[name], self.rows, self.folder / MODULES[name], python=self.pythons[name])
            for name in names
            if name not in self.missing
        }

    def _each(self, workers: dict[str, Worker], operation: str, do: str) -> None:
        """Ask all once; a library that fails at this is left out from here on."""
        for name, worker in list(workers.items()):
            answer = worker.ask(do)
            if isinstance(answer, Missing) and answer.kind == "failed":
                self.missing[name] = answer
                workers.pop(name).close()
            else:
                self.found[operation, name] = answer if isinstance(answer, Missing) else [answer]

    def _rounds(self, workers: dict[str, Worker], operation: str, do: str, **details: float) -> None:
        """Ask all in turn, round by round; the first round is a warm-up that does not count, unless it was slow."""
        slow: set[str] = set()
        for number in range(self.rounds + 1):
            for name, worker in workers.items():
                found = self.found.get((operation, name))
                if name in slow or isinstance(found, Missing):
                    continue
                started_s = time.monotonic()
                # What numpy does of a scan is one copy of all bytes.
                asked = "copy" if do == "scan" and name == NUMPY else do
                answer = worker.ask(asked, number=number, **details)
                if time.monotonic() - started_s > _SLOW_S and do != "epoch":  # the first starts workers
                    slow.add(name)
                if isinstance(answer, Missing):
                    self.found[operation, name] = answer
                elif number or name in slow:
                    self.found[operation, name] = [*(found or []), answer]

    def _check_vectors(self, workers: dict[str, Worker]) -> None:
        """Leave out who does not give the vectors that most give."""
        sums = {name: found for name in workers if isinstance(found := self.found["checksum", name], list)}
        right = mode(found[0] for found in sums.values())
        for name, found in sums.items():
            if found[0] != right:
                self.missing[name] = Missing("failed", "gives other vectors than were written")
                workers.pop(name).close()

    def _close(self, workers: dict[str, Worker]) -> None:
        for worker in workers.values():
            worker.close()

    def result(self, operation: str, name: str) -> float | Missing:
        """The median of the rounds."""
        found = self.missing.get(name) or self.found.get((operation, name))
        if found is None:  # asked only of those that have a loader at all
            found = self.found[EPOCH, name]
        return found if isinstance(found, Missing) else median(found)

    def times_slower(self, operation: str, name: str) -> float | Missing:
        """How many times as long as Plait the library takes."""
        theirs, ours = self.result(operation, name), self.result(operation, PLAIT)
        if isinstance(theirs, Missing) or isinstance(ours, Missing):
            return theirs if isinstance(theirs, Missing) else ours
        return theirs / ours if operation in _TIMES else ours / theirs

    def measures(self) -> Iterator[Measure]:
        """The figures of all libraries, each beside its goal: to be slower than Plait."""
        for operation, (unit, factor) in _UNITS.items():
            for name in self.pythons:
                result = self.result(operation, name)
                if isinstance(result, Missing):
                    yield Measure(f"{operation}: {name}", None, f"{result.kind}: {result.reason}")
                    continue
                yield Measure(f"{operation}: {name}", result * factor, unit)
                slower = self.times_slower(operation, name)
                if name not in (PLAIT, NUMPY) and not isinstance(slower, Missing):
                    yield at_least(f"{operation}: {name}, times as long as Plait", slower, "times", 1)
        yield from self._against_numpy()

    def _against_numpy(self) -> Iterator[Measure]:
        one, copied = self.result(ONE, PLAIT), self.times_slower(SCAN, NUMPY)
        gets = [self.found.get((GET, name)) for name in (PLAIT, NUMPY)]
        if isinstance(one, float):
            yield at_most("one key, median", one * 1e6, "us", 20)
        if isinstance(copied, float):
            yield at_least("full scan, of the speed of one copy", copied, "times", 0.5)
        if all(isinstance(found, list) for found in gets):
            ratio = median(ours / theirs for ours, theirs in zip(*gets, strict=True))
            yield at_most("get of 256 keys, over numpy on a memory map", ratio, "times", 1.5)

    def table(self) -> str:
        """How many times as long as Plait each library takes, and why figures are missing."""
        lines = [["times as long as Plait", *_UNITS]]
        for name in self.pythons:
            cells = [self.times_slower(operation, name) for operation in _UNITS]
            lines.append([name, *(cell.kind if isinstance(cell, Missing) else f"{cell:.2f}" for cell in cells)])
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        rows = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
        found = [(name, operation, self.result(operation, name)) for name in self.pythons for operation in _UNITS]
        notes = dict.fromkeys(f"{name}: {cell.reason}" for name, _, cell in found if isinstance(cell, Missing))
        return "\n".join([*rows, "", *notes])


if __name__ == "__main__":
    main()
