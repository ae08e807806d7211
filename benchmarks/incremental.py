"""What a change costs: bytes that change on disk, files that DVC pushes, encoder calls and seconds.

Samples are texts, and two views encode them with an encoder that costs next to nothing, so that all the rest shows. The
stages run in this process, in shards of the size that params.yaml has. Run from a checkout:
python benchmarks/incremental.py [--quick] [--json]
"""

import argparse
import hashlib
import json
import logging
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from features.encoders.base import Media, Prepared
from features.rev import digest_file
from features.view import View
from measures import Measure, at_most, show
from pipelines.align import align
from pipelines.clean import clean
from pipelines.embed import embed_views
from pipelines.ingest import ingest
from pipelines.params import Params, load_params
from pipelines.view_plan import define_view

REPOSITORY = Path(__file__).parent.parent

NUM_SAMPLES, NUM_QUICK = 100_000, 10_000
SEGMENTS = 10  # samples of one prefix
DIM = 768  # as in benchmarks/store.py
VIEWS = ("first", "second")
RECORDINGS_SHARD = 256  # in a shard of clean; a recording is one text here, where params.yaml thinks of long ones


@dataclass
class CountingEncoder:
    """A text to random numbers that its hash seeds; every text that it is given adds a byte to the log."""

    name: str
    log: Path
    inputs: frozenset[str] = frozenset({"text"})
    is_on_cpu: bool = True
    batch_size: int = 64
    dim: int = DIM
    _file: int = field(default=-1, init=False)

    def definition(self) -> dict[str, Any]:
        return {"name": self.name, "settings": {}, "weights_digest": None}

    def size_of_batch(self, shape: tuple[int, ...]) -> int:
        return self.batch_size

    def load(self, device: str) -> None:
        self._file = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def prepare(self, media: Media) -> Prepared:
        os.write(self._file, b".")
        digest = hashlib.sha256(f"{self.name} {media}".encode()).digest()
        rng = np.random.Generator(np.random.Philox(int.from_bytes(digest[:8], "little")))
        return Prepared([rng.standard_normal(self.dim, dtype=np.float32)], np.full((1, 2), np.nan))

    def encode(self, units_B: np.ndarray) -> list[np.ndarray]:
        return list(units_B[:, None, :])

    def encode_each(self, units: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [vectors for unit in units for vectors in self.encode(unit[None])]


@dataclass(frozen=True)
class Run:
    """What one run cost; seconds of embed alone and of the whole chain, calls by view."""

    embed_s: float
    chain_s: float
    calls: dict[str, int]
    changed: dict[str, int]  # bytes of the files of the store that are new or other than before
    num_bytes: int  # of all of them
    num_pushed: int


class Project:
    """A project whose source is one table of texts, and a DVC repository around its store."""

    def __init__(self, folder: Path, texts: dict[str, str]) -> None:
        self.folder = folder
        self.texts = texts
        self.params = _params(folder / "source.jsonl")
        self.store = folder / "data" / "features"
        self.remote = folder / "remote"
        folder.mkdir()
        for command in (["git", "init", "--quiet"], _dvc("init"), _dvc("remote", "add", "-d", "local", "remote")):
            subprocess.run(command, cwd=folder, check=True, capture_output=True)

    def run(self) -> Run:
        """Run all stages over the texts as they are now, and push the store."""
        with open(self.folder / "source.jsonl", "w") as file:
            for key, text in sorted(self.texts.items()):
                file.write(json.dumps({"key": key, "text": text}) + "\n")
        before = _digests(self.store)
        data, params = self.folder / "data", self.params
        started_s = time.monotonic()
        with redirect_stderr(StringIO()):  # what the stages say of themselves
            ingest(params.ingest, data / "ingest", params.beam)
            clean(params.clean, data / "ingest", data / "clean", params.beam)
            align(params.align, data / "clean", data / "align", params.beam)
            embed_s = self._embed()
        chain_s = time.monotonic() - started_s
        after = _digests(self.store)
        changed = {name: size for name, (digest, size) in after.items() if before.get(name, ("", 0))[0] != digest}
        num_bytes = sum(size for _, size in after.values())
        return Run(embed_s, chain_s, self._take_calls(), changed, num_bytes, self._push())

    def _embed(self) -> float:
        data, params = self.folder / "data", self.params
        views = [View(name=name, input="text", encoder="counting") for name in VIEWS]
        defined = [define_view(view, CountingEncoder(view.name, self._log(view.name)), "cpu") for view in views]
        started_s = time.monotonic()
        embed_views(defined, params.embed, [data / "align"], self.store, params.beam, ingest=data / "ingest")
        return time.monotonic() - started_s

    def _log(self, view: str) -> Path:
        return self.folder / f"{view}.log"

    def _take_calls(self) -> dict[str, int]:
        logs = {name: self._log(name) for name in VIEWS}
        calls = {name: log.stat().st_size if log.exists() else 0 for name, log in logs.items()}
        for log in logs.values():
            log.unlink(missing_ok=True)
        return calls

    def _push(self) -> int:
        """How many objects DVC sends to the remote."""
        before = _num_files(self.remote)
        for command in (_dvc("add", "data/features"), _dvc("push")):
            subprocess.run(command, cwd=self.folder, check=True, capture_output=True)
        return _num_files(self.remote) - before


def _params(source: Path) -> Params:
    params = load_params(REPOSITORY / "params.yaml")
    return params.model_copy(
        update={
            "ingest": params.ingest.model_copy(update={"source": str(source)}),
            "clean": params.clean.model_copy(update={"shard_samples": RECORDINGS_SHARD}),
        }
    )


def _dvc(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "dvc", *arguments]


def _num_files(folder: Path) -> int:
    return sum(path.is_file() for path in folder.rglob("*"))


def _digests(folder: Path) -> dict[str, tuple[str, int]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (digest_file(path), path.stat().st_size) for path in files}


def _text(number: int, edition: int = 0) -> str:
    digest = hashlib.sha256(f"{number} {edition}".encode()).hexdigest()
    return f"sample {number} of edition {edition}, about as long as a sentence that somebody says: {digest}"


def _key(prefix: str, number: int) -> str:
    return f"{prefix}{number // SEGMENTS:06d}/{number % SEGMENTS:04d}"


def _append(texts: dict[str, str], num: int) -> None:
    """New recordings whose names come after the others, as those of a later day do."""
    texts.update({_key("b", number): _text(number, 1) for number in range(num)})


def _scatter(texts: dict[str, str], num: int) -> None:
    """New recordings whose names come anywhere among the others."""
    keys = random.Random(0).sample(sorted(key for key in texts if key.startswith("a")), num)
    texts.update({f"{key}x": _text(number, 2) for number, key in enumerate(keys)})


def _edit(texts: dict[str, str], num: int) -> None:
    keys = random.Random(1).sample(sorted(texts), num)
    texts.update({key: _text(number, 3) for number, key in enumerate(keys)})


def _delete(texts: dict[str, str], num: int) -> None:
    for key in random.Random(2).sample(sorted(texts), num):
        del texts[key]


def measure(folder: Path, num_samples: int) -> Iterator[Measure]:
    """The figures, as they come."""
    Project(folder / "warm", {_key("a", number): _text(number) for number in range(20)}).run()  # imports and caches
    project = Project(folder / "project", {_key("a", number): _text(number) for number in range(num_samples)})
    num = num_samples // 100
    full = project.run()
    yield from _figures("from nothing", full)
    same = project.run()
    yield at_most("nothing changed: embed", same.embed_s, "s", 5)
    yield at_most("nothing changed: encoder calls", sum(same.calls.values()), "calls", 0)
    yield at_most("nothing changed: files that change", len(same.changed), "files", 0)
    yield Measure("nothing changed: all stages", same.chain_s, "s")
    _append(project.texts, num)
    appended = project.run()
    for view, calls in appended.calls.items():
        yield Measure(f"append 1%: encoder calls of the view {view}", calls, "calls", f"== {num}", calls == num)
    if num_samples == NUM_SAMPLES:  # of a small store one shard and the start of a job are more than a few percent
        share = _percent(sum(appended.changed.values()), appended.num_bytes)
        yield at_most("append 1%: bytes that change, of all", share, "%", 3)
        yield at_most("append 1%: embed, of its time from nothing", _percent(appended.embed_s, full.embed_s), "%", 5)
    yield from _figures("append 1%", appended)
    changes: dict[str, Callable[[dict[str, str], int], None]] = {
        "edit 1% at random": _edit,
        "delete 1% at random": _delete,
        "add 1% among the others": _scatter,
    }
    for name, change in changes.items():
        change(project.texts, num)
        yield from _figures(name, project.run())


def _figures(name: str, run: Run) -> Iterator[Measure]:
    num_bytes = sum(run.changed.values())
    yield Measure(f"{name}: bytes that change", num_bytes / 1e6, "MB")
    yield Measure(f"{name}: bytes that change, in percent", _percent(num_bytes, run.num_bytes), "%")
    yield Measure(f"{name}: files that change", len(run.changed), "files")
    yield Measure(f"{name}: objects that DVC pushes", run.num_pushed, "files")
    yield Measure(f"{name}: encoder calls of both views", sum(run.calls.values()), "calls")
    yield Measure(f"{name}: embed", run.embed_s, "s")
    yield Measure(f"{name}: all stages", run.chain_s, "s")


def _percent(part: float, whole: float) -> float:
    return 100 * part / whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{NUM_QUICK} samples, not {NUM_SAMPLES}; fewer goals")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)  # Beam warns of optional parts that nobody asked for
    with tempfile.TemporaryDirectory() as folder:
        for figure in measure(Path(folder), NUM_QUICK if options.quick else NUM_SAMPLES):
            show(figure, as_json=options.json)


if __name__ == "__main__":
    main()
