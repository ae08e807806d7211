"""Small workers and a step for tests of the Beam job, and a door to run them in a process that may be killed."""

import os
import resource
import signal
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.runner import PipelineResult, PipelineRunner, PipelineState

from features.errors import PlaitError
from features.reasons import Reason
from features.rev import digest_json
from features.sample import MediaRow
from features.shards import cut_shards, describe_shard, shard_file, shard_name, shard_writer
from pipelines.job import Reject, ShardRecord, ShardTask, run_job
from pipelines.params import BeamParams
from pipelines.progress import ShardProgress
from pipelines.stage import Outcome, ShardStep, known_records, publish_stage

SCHEMA = pa.schema([pa.field("key", pa.string(), nullable=False), pa.field("text", pa.string())])
KEYS = [f"rec{number:02d}" for number in range(24)]


def local_beam(threads: int = 2, *options: str, runner: type[PipelineRunner] = FnApiRunner) -> BeamParams:
    """The parameters of a run in this process."""
    return BeamParams(runner=f"{runner.__module__}.{runner.__qualname__}", options=list(options), threads=threads)


def shard_tasks(folder: Path) -> list[ShardTask]:
    """Tasks of about three of the KEYS each."""
    return [shard_task(folder, KEYS[span.start : span.stop]) for span in cut_shards(KEYS, 3)]


def shard_task(folder: Path, keys: list[str], setting: str = "", file: str | None = None) -> ShardTask:
    """The task of one shard; file: a name that does not hold the fingerprint."""
    name, fingerprint = shard_name(keys[0]), digest_json([keys, setting])
    file = file or shard_file(name, fingerprint)
    return ShardTask(name, str(folder), file, fingerprint, len(keys), [keys, setting])


class Copying:
    """Writes its keys with the setting as text."""

    def __call__(self, task: ShardTask, progress: ShardProgress) -> ShardRecord:
        _mark(task)
        keys, setting = task.inputs
        with shard_writer(task.path, SCHEMA) as writer:
            for key in keys:
                writer.append({"key": key, "text": setting})
                progress.add(1, 0)
        progress.report()
        return ShardRecord(describe_shard(task.name, task.path), task.fingerprint, len(keys), ())


@dataclass(frozen=True)
class Failing(Copying):
    """Raises an error, at the named shard or at all."""

    error: Exception
    name: str | None = None

    def __call__(self, task: ShardTask, progress: ShardProgress) -> ShardRecord:
        if self.name not in (None, task.name):
            return super().__call__(task, progress)
        _mark(task)
        raise self.error


def _mark(task: ShardTask) -> None:
    marks = Path(task.folder).parent / "marks"
    marks.mkdir(parents=True, exist_ok=True)
    with open(marks / task.name, "a") as file:
        file.write("begun\n")


def num_begun(folder: Path) -> dict[str, int]:
    """How often a worker was called for each shard of the folder."""
    return {path.name: len(path.read_text().splitlines()) for path in (folder.parent / "marks").iterdir()}


class FillingTheDisk:
    """Writes to a device that is always full."""

    def __call__(self, task: ShardTask, progress: ShardProgress) -> ShardRecord:
        with open("/dev/full", "wb", buffering=0) as full:
            full.write(b"row")
        raise AssertionError("a full device took a byte")


class IdleRunner(PipelineRunner):
    """A Beam runner that reports success and does nothing."""

    def run_pipeline(self, pipeline: Any, options: Any) -> PipelineResult:
        return PipelineResult(PipelineState.DONE)


@dataclass(frozen=True)
class Doubling:
    """A step that gives two rows for each sample but those whose key is rejected."""

    rejected: frozenset[str] = frozenset()
    lost: str | None = None  # a key that goes without a word
    schema: ClassVar[pa.Schema] = SCHEMA

    def read(self, inputs: Any) -> Iterable[MediaRow]:
        return [{"key": key, "text": key.upper()} for key in inputs[0]]

    def __call__(self, row: MediaRow) -> Outcome:
        if row["key"] == self.lost:
            return [], []
        if row["key"] in self.rejected:
            return [], [Reject(row["key"], "double", Reason.EMPTY, "sample", "nothing in it")]
        return [row, {**row, "key": row["key"] + "/again"}], []


@dataclass(frozen=True)
class Killing(Doubling):
    """The same step, which ends its own process in the middle of the shard after num_shards are made."""

    folder: Path = Path()
    num_shards: int = 3

    def __call__(self, row: MediaRow) -> Outcome:
        if len(list(self.folder.glob("*.arrow"))) == self.num_shards:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(row)


def run_doubling(folder: Path, step: Doubling, threads: int = 2) -> list[ShardRecord]:
    """Run the step over KEYS and publish, as a stage does."""
    tasks = shard_tasks(folder)
    records = run_job(ShardStep(step), tasks, known=known_records(folder), params=local_beam(threads), label="double")
    publish_stage(folder, stage="double", settings={}, records=records, before=folder / "nothing")
    return records


def main() -> None:
    """shard_work.py kill FOLDER, or shard_work.py limit FOLDER BYTES (the size that no file may pass)."""
    command, folder = sys.argv[1], Path(sys.argv[2])
    try:
        if command == "kill":
            run_doubling(folder, Killing(folder=folder), threads=1)
        else:
            limit_bytes = int(sys.argv[3])
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
            run_doubling(folder, Doubling())
    except PlaitError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
