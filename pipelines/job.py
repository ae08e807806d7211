"""One Beam job for every stage: small descriptions of shards in, small records of finished shards out."""

import io
import json
import shutil
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import redirect_stderr
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import apache_beam as beam
import grpc
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.portability.portable_runner import PortableRunner

from features.errors import ConfigError, PlaitError, StageError
from features.rev import digest_file
from features.shards import NAME_CHARS, Shard, write_json
from pipelines.params import BeamParams
from pipelines.process import limit_threads, sample_often
from pipelines.progress import ShardProgress, watch_progress

WORK_FOLDER = ".work"  # beside the shards while a job runs: records of finished shards and progress
_RECORD_BYTES = 500  # of a record that says what went wrong


@dataclass(frozen=True)
class Reject:
    """Something that did not come through. dropped is "sample", a modality, "part" (shortened, but kept), or "nothing"
    (a warning)."""

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
    account: dict[str, Any] = field(default_factory=dict, compare=False)  # of the work itself: it is not published

    @property
    def num_tried(self) -> int:
        """How many things could have been rejected: the samples, or what they were to be cut into."""
        return max(self.num_in, self.shard.num_rows + sum(reject.dropped == "sample" for reject in self.rejects))

    def to_json(self) -> dict[str, Any]:
        """The record as it is published."""
        return {name: value for name, value in asdict(self).items() if name != "account"}

    @staticmethod
    def from_json(content: dict[str, Any]) -> "ShardRecord":
        rejects = tuple(Reject(**reject) for reject in content["rejects"])
        account = content.get("account", {})
        return ShardRecord(Shard(**content["shard"]), content["fingerprint"], content["num_in"], rejects, account)


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
        self._pending: list[Future[None]] = []
        self._has_failed = False

    def process(self, task: ShardTask) -> None:
        self._pending.append(self._pool.submit(self._make, task))

    def _make(self, task: ShardTask) -> None:
        """After the first failure the others are left alone: on a full disk they would fail as well, only later."""
        if not self._has_failed:
            self._has_failed = not make_shard(task, self._worker)

    def finish_bundle(self) -> None:
        try:
            for future in self._pending:
                future.result()
        finally:  # an interrupt does not wait for shards that are not begun
            for future in self._pending:
                future.cancel()

    def teardown(self) -> None:
        self._pool.shutdown(cancel_futures=True)


def make_shard(task: ShardTask, worker: ShardWorker) -> bool:
    """Make the shard unless it is there, and leave its record, or the reason why there is none, beside it.

    Returns whether it is there. An error becomes a record, since Beam would hand it on as a page of traceback.
    """
    if is_finished(task):
        return True
    try:
        record = asdict(worker(task, ShardProgress(task.progress_path)))
    except PlaitError as error:
        record = {"error": str(error)}
    except OSError as error:
        record = {"error": f"shard {task.name}: {error.strerror or error} at {error.filename or task.folder}"}
    write_json(task.record_path, record)
    return "error" not in record


def is_finished(task: ShardTask) -> bool:
    """Whether the shard is there, and its record, which says so."""
    record = _load_record(task)
    return "shard" in record and _is_made(task, record["shard"]["digest"])


def _load_record(task: ShardTask) -> dict[str, Any]:
    """What came of the shard, nothing if there is no record."""
    path = task.record_path
    content: dict[str, Any] = json.loads(path.read_bytes()) if path.exists() else {}
    return content


def _is_made(task: ShardTask, digest: str) -> bool:
    """Whether the shard of the record stands. A name that holds the fingerprint tells; under any other name a run
    that was cut off may have left a file of other settings, so its bytes are compared."""
    return task.path.exists() and (task.fingerprint[:NAME_CHARS] in task.file or digest_file(task.path) == digest)


def run_job(
    worker: ShardWorker,
    tasks: Sequence[ShardTask],
    *,
    known: dict[str, ShardRecord],
    params: BeamParams,
    label: str,
    at_once: int | None = None,
) -> list[ShardRecord]:
    """Make the shards on the chosen Beam runner and return their records in the order of the tasks.

    at_once: shards that one process of the runner has at work together, instead of params.threads.
    known: records of the last published version by file name; a shard among them whose file stands is not made again.
    Raises StageError with the first failure if a shard could not be made or has no record: not every runner that
    reports success has done all of the work.
    """
    todo = [task for task in tasks if not is_published(task, known)]
    for task in todo:
        _forget_failure(task)
    if todo:
        _check_room(todo[0])
        pipeline = _new_pipeline(params)
        paths = [task.progress_path for task in todo]
        with watch_progress(label, paths, sum(task.num_rows for task in todo)):
            make = _ProcessShard(worker, at_once or params.threads)
            _run_pipeline(pipeline, make, todo, runner=params.runner, label=label)
    made = _read_records(todo)
    return [made.get(task.file) or known[task.file] for task in tasks]


def is_published(task: ShardTask, known: dict[str, ShardRecord]) -> bool:
    """Whether the last version has the very shard that the task would make, and its file stands."""
    record = known.get(task.file)
    return record is not None and record.fingerprint == task.fingerprint and _is_made(task, record.shard.digest)


def _check_room(task: ShardTask) -> None:
    """Raise StageError before any work if the disk cannot take even a worker's account of what went wrong."""
    room = task.record_path.with_name("room")
    try:
        write_json(room, "x" * _RECORD_BYTES)
    except OSError as error:
        raise StageError(f"{error.strerror}: {error.filename}") from error
    room.unlink()


def _forget_failure(task: ShardTask) -> None:
    if "error" in _load_record(task):
        task.record_path.unlink()


def _new_pipeline(params: BeamParams) -> beam.Pipeline:
    """A pipeline on the chosen runner. Raises ConfigError where Beam would print its usage and exit, or, for a local
    runner, go on without an option that nothing reads."""
    usage = io.StringIO()
    try:
        with redirect_stderr(usage):
            options = PipelineOptions([f"--runner={params.runner}", *params.options])
            known, given = options.get_all_options(), options.get_all_options(retain_unknown_options=True)
    except SystemExit as error:
        cause = usage.getvalue().rpartition("error: ")[2].strip() or "it is no option of a job"
        raise ConfigError(f"beam.options is {params.options}: {cause}: correct it") from error
    try:
        pipeline = beam.Pipeline(options=options)
    except (ValueError, ImportError, AttributeError) as error:
        raise ConfigError(
            f"beam.runner is {params.runner!r}, which cannot be loaded ({error}): give the full name of a Beam runner"
        ) from error
    unknown = sorted(given.keys() - known.keys())
    if unknown and not isinstance(pipeline.runner, PortableRunner):  # a job server may have options of its own
        raise ConfigError(
            f"beam.options is {params.options}: Beam knows no option {unknown[0]!r}: correct or remove it"
        )
    return pipeline


def _is_one_process(pipeline: beam.Pipeline) -> bool:
    """Whether one process makes all shards: there is nobody to spread them over, which takes longer than all else that
    Beam does."""
    is_local = isinstance(pipeline.runner, FnApiRunner)
    return is_local and pipeline.options.view_as(DirectOptions).direct_num_workers == 1


def _run_pipeline(
    pipeline: beam.Pipeline, make: _ProcessShard, tasks: Sequence[ShardTask], *, runner: str, label: str
) -> None:
    sample_often()
    try:
        with pipeline:
            listed = pipeline | f"List {label} shards" >> beam.Create(list(tasks), reshuffle=False)
            if not _is_one_process(pipeline):
                listed |= "Spread over workers" >> beam.Reshuffle()
            _ = listed | f"Make {label} shards" >> beam.ParDo(make)
    except (RuntimeError, ValueError, OSError, grpc.RpcError, grpc.FutureTimeoutError) as error:
        # Runners hand a worker's error on as text, traceback and all.
        last_line = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise StageError(f"the Beam job {label!r} failed on {runner}: {last_line}") from error


def _read_records(tasks: Sequence[ShardTask]) -> dict[str, ShardRecord]:
    """The records by file name. A failure is told before a shard that is merely missing, which may follow from it."""
    found = [_load_record(task) for task in tasks]
    for record in found:
        if "error" in record:
            raise StageError(record["error"])
    made = {}
    for task, record in zip(tasks, found, strict=True):
        if not record or not task.path.exists():
            raise StageError(
                f"the Beam runner reported success, but shard {task.name} was not made: use another runner"
            )
        made[task.file] = ShardRecord.from_json(record)
    return made


def remove_work(folder: Path) -> None:
    """Remove the records and progress of a job whose outcome is published."""
    shutil.rmtree(folder / WORK_FOLDER, ignore_errors=True)
