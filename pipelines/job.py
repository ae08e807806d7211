"""One Beam job for every stage: small descriptions of shards in, small records of finished shards out."""

import ctypes
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from features.errors import PlaitError, StageError
from features.shards import Shard, write_json
from pipelines.params import BeamParams
from pipelines.progress import ShardProgress, watch_progress

WORK_FOLDER = ".work"  # beside the shards while a job runs: records of finished shards and progress


@dataclass(frozen=True)
class Reject:
    """Something that did not come through. dropped is "sample", a modality, or "part" (shortened, but kept)."""

    key: str
    stage: str
    reason: str
    dropped: str
    text: str


@dataclass(frozen=True)
class ShardTask:
    """An element of the job: which shard to make from which inputs. It holds no media."""

    name: str
    folder: str
    file: str
    fingerprint: str  # digest of all that the file's bytes depend on
    num_rows: int
    inputs: Any

    @property
    def path(self) -> Path:
        return Path(self.folder) / self.file

    @property
    def record_path(self) -> Path:
        return Path(self.folder) / WORK_FOLDER / f"{self.name}-{self.fingerprint}.json"

    @property
    def progress_path(self) -> Path:
        return self.record_path.with_suffix(".progress")


@dataclass(frozen=True)
class ShardRecord:
    """A finished shard: its entry for the manifest, how many samples went in, and what was rejected."""

    shard: Shard
    fingerprint: str
    num_in: int
    rejects: tuple[Reject, ...]

    @property
    def num_tried(self) -> int:
        """How many things could have been rejected: the samples, or what they were to be cut into."""
        return max(self.num_in, self.shard.num_rows + sum(reject.dropped == "sample" for reject in self.rejects))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(content: dict[str, Any]) -> "ShardRecord":
        rejects = tuple(Reject(**reject) for reject in content["rejects"])
        return ShardRecord(Shard(**content["shard"]), content["fingerprint"], content["num_in"], rejects)


class ShardWorker(Protocol):
    """Makes one shard. It travels to the workers, so it holds settings only."""

    def __call__(self, task: ShardTask, progress: ShardProgress) -> ShardRecord:
        """Write task.path, whole or not at all, and say what went in and out."""


class _ProcessShard(beam.DoFn):
    """Runs the worker on each shard, a few at a time on threads: decoders and models release the interpreter lock."""

    def __init__(self, worker: ShardWorker, threads: int) -> None:
        self._worker = worker
        self._threads = threads

    def setup(self) -> None:
        limit_threads()
        self._pool = ThreadPoolExecutor(self._threads)

    def start_bundle(self) -> None:
        self._pending: list[Future[str]] = []

    def process(self, task: ShardTask) -> None:
        self._pending.append(self._pool.submit(make_shard, task, self._worker))

    def finish_bundle(self) -> Iterator[WindowedValue]:
        window = GlobalWindow()
        for future in self._pending:
            yield WindowedValue(future.result(), window.max_timestamp(), [window])

    def teardown(self) -> None:
        self._pool.shutdown()


def make_shard(task: ShardTask, worker: ShardWorker) -> str:
    """Make the shard unless it is there, and leave its record, or the reason why there is none, beside it.

    Returns the shard's name. An error becomes a record too, since Beam would hand it on as a page of traceback.
    """
    if task.record_path.exists() and task.path.exists():
        return task.name
    try:
        record = worker(task, ShardProgress(task.progress_path)).to_json()
    except PlaitError as error:
        record = {"error": str(error)}
    except OSError as error:
        record = {"error": f"shard {task.name}: {error.strerror or error} at {error.filename or task.folder}"}
    write_json(task.record_path, record)
    return task.name


def limit_threads() -> None:
    """One thread each for torch and OpenCV, since several shards share the cores, and image buffers that stay with
    the process instead of going back to the kernel each time."""
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    if sys.platform == "linux":
        trim_threshold, mmap_threshold = -1, -3
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_threshold, 1 << 26)
        libc.mallopt(trim_threshold, 1 << 28)


def run_job(
    worker: ShardWorker, tasks: Sequence[ShardTask], *, known: dict[str, ShardRecord], params: BeamParams, label: str
) -> list[ShardRecord]:
    """Make the shards on the chosen Beam runner and return their records in the order of the tasks.

    known: records of the last published version by file name; a shard among them whose file stands is not made again.
    Raises StageError with the first failure if a shard could not be made or has no record: not every runner that
    reports success has done all of the work.
    """
    todo = [task for task in tasks if not _is_done(task, known)]
    for task in todo:
        _forget_failure(task)
    if todo:
        paths = [task.progress_path for task in todo]
        with watch_progress(label, paths, sum(task.num_rows for task in todo)):
            _run_pipeline(worker, todo, params, label)
    made = {task.file: _read_record(task) for task in todo}
    return [made.get(task.file) or known[task.file] for task in tasks]


def _is_done(task: ShardTask, known: dict[str, ShardRecord]) -> bool:
    record = known.get(task.file)
    return record is not None and record.fingerprint == task.fingerprint and task.path.exists()


def _forget_failure(task: ShardTask) -> None:
    if task.record_path.exists() and "error" in json.loads(task.record_path.read_text()):
        task.record_path.unlink()


def _run_pipeline(worker: ShardWorker, tasks: Sequence[ShardTask], params: BeamParams, label: str) -> None:
    options = PipelineOptions([f"--runner={params.runner}", "--save_main_session=false", *params.options])
    try:
        with beam.Pipeline(options=options) as pipeline:
            _ = (
                pipeline
                | f"List {label} shards" >> beam.Create(list(tasks), reshuffle=False)
                | "Spread over workers" >> beam.Reshuffle()
                | f"Make {label} shards" >> beam.ParDo(_ProcessShard(worker, params.threads))
            )
    except (RuntimeError, ValueError) as error:  # runners hand a worker's error on as text, traceback and all
        last_line = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise StageError(f"the Beam job {label!r} failed on {params.runner}: {last_line}") from error


def _read_record(task: ShardTask) -> ShardRecord:
    if not task.record_path.exists():
        raise StageError(f"the Beam runner reported success, but shard {task.name} was not made: use another runner")
    content = json.loads(task.record_path.read_text())
    if "error" in content:
        raise StageError(content["error"])
    return ShardRecord.from_json(content)


def remove_work(folder: Path) -> None:
    """Remove the records and progress of a job whose outcome is published."""
    shutil.rmtree(folder / WORK_FOLDER, ignore_errors=True)
