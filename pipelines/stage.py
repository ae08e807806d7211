"""A stage's output folder: shards of samples, the manifest that lists them, and all rejects so far."""

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from features.errors import RejectRatioError, StageError
from features.manifest import MANIFEST_FILE, REJECTS_FILE
from features.rev import digest_file, digest_json
from features.sample import MEDIA_SCHEMA, REJECT_SCHEMA, MediaRow
from features.shards import (
    Shard,
    describe_shard,
    iter_batches,
    read_rejects,
    replacing,
    shard_file,
    shard_writer,
    write_json,
)
from pipelines.job import Reject, ShardRecord, ShardTask, remove_work, run_job
from pipelines.lock import writing
from pipelines.params import BeamParams
from pipelines.progress import ShardProgress

Outcome = tuple[list[MediaRow], list[Reject]]


class Step(Protocol):
    """What a stage does to one sample; it travels to the workers, so it holds settings only."""

    schema: ClassVar[pa.Schema]

    def read(self, inputs: Any) -> Iterable[MediaRow]:
        """The samples that a task's inputs describe, one at a time."""

    def __call__(self, row: MediaRow) -> Outcome:
        """The rows that the sample becomes, and what was rejected on the way."""


@dataclass(frozen=True)
class ShardStep:
    """The worker of the stages that go sample by sample: read, work, count, write."""

    step: Step

    def __call__(self, task: ShardTask, progress: ShardProgress) -> ShardRecord:
        rejects: list[Reject] = []
        num_in = 0
        with shard_writer(task.path, self.step.schema) as writer:
            for row in self.step.read(task.inputs):
                rows, rejected = self.step(row)
                if not rows and not any(reject.dropped == "sample" for reject in rejected):
                    raise StageError(f"sample {row['key']!r} would be lost without a reason: report this")
                for out in rows:
                    writer.append(out)
                rejects += rejected
                num_in += 1
                progress.add(1, sum(reject.dropped != "nothing" for reject in rejected))
            if num_in != task.num_rows:
                raise StageError(
                    f"shard {task.name} had {num_in} samples to read, not {task.num_rows}: run the stage before"
                )
        progress.report()
        return ShardRecord(describe_shard(task.name, task.path), task.fingerprint, num_in, tuple(rejects))


@dataclass(frozen=True)
class StageManifest:
    """What a stage published: its settings, its shards with what each one lost, and the settings of earlier stages."""

    stage: str
    steps: dict[str, Any]
    records: tuple[ShardRecord, ...]

    @property
    def shards(self) -> list[Shard]:
        return [record.shard for record in self.records]


@dataclass(frozen=True)
class ShardBefore:
    """A shard of the stage before, and the sha256 that it was published with."""

    path: str
    digest: str

    def check(self) -> Path:
        """Its path. Raises StageError if it is another file now: what is made of damaged media would look sound."""
        path = Path(self.path)
        if digest_file(path) != self.digest:
            raise StageError(f"shard {path} is not what the manifest says: delete it and run 'dvc repro'")
        return path


def load_stage(folder: Path) -> StageManifest:
    """Read what a stage published. Raises StageError if it has not run, or its manifest is not one of this Plait."""
    path = folder / MANIFEST_FILE
    if not path.is_file():
        raise StageError(
            f"{path} does not exist, so stage {folder.name!r} has not finished: run 'dvc repro {folder.name}'"
        )
    try:
        content = json.loads(path.read_bytes())
        records = tuple(ShardRecord.from_json(record) for record in content["records"])
        return StageManifest(content["stage"], content["steps"], records)
    except (KeyError, TypeError, ValueError) as error:
        raise StageError(
            f"{path} is damaged or of another Plait ({error!r}): remove {folder} and run 'dvc repro'"
        ) from error


def known_records(folder: Path) -> dict[str, ShardRecord]:
    """Records of the last published version by file name; none if there is no such version."""
    if not (folder / MANIFEST_FILE).is_file():
        return {}
    return {record.shard.file: record for record in load_stage(folder).records}


def load_rejects(folder: Path) -> list[Reject]:
    """All rejects of the stage and of those before it. Raises ShardError if the file is damaged."""
    path = folder / REJECTS_FILE
    return [Reject(**row) for row in read_rejects(path).to_pylist()] if path.exists() else []


def check_ratio(stage: str, rejects: Sequence[Reject], num_in: int, max_reject_ratio: float) -> None:
    """Raise RejectRatioError if more of the stage's inputs than allowed lost something.

    It lists the warnings, too: where times are in another unit, they say why so much lies outside of its recording.
    """
    lost = [reject for reject in rejects if reject.dropped not in ("part", "nothing")]
    num_keys = len({reject.key for reject in lost})
    if num_keys > max_reject_ratio * num_in:
        reasons = Counter(reject.reason for reject in lost)
        listed = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
        raise RejectRatioError(
            f"{stage} rejected {num_keys} of {num_in} ({num_keys / max(num_in, 1):.0%}), max_reject_ratio is "
            f"{max_reject_ratio:g}; reasons: {listed}; first: {lost[0].key}: {lost[0].text}. {_list_warnings(rejects)}"
            f"Mend the source or raise {stage}.max_reject_ratio"
        )


def _list_warnings(rejects: Sequence[Reject]) -> str:
    """The first warning of each reason, for the middle of a line; nothing if there is none."""
    first: dict[str, Reject] = {}
    for reject in rejects:
        if reject.dropped == "nothing":
            first.setdefault(reject.reason, reject)
    listed = "; ".join(f"{reason}, as {reject.key}: {reject.text}" for reason, reject in first.items())
    return f"Warnings: {listed}. " if listed else ""


def say_outcome(stage: str, *, num_in: int, num_out: int, rejects: Sequence[Reject]) -> None:
    """Print what a stage made and, by reason, how much it lost, with the first of each as an example."""
    num_warnings = sum(reject.dropped == "nothing" for reject in rejects)
    warned = f", {num_warnings} warnings" if num_warnings else ""
    lines = [f"{stage}: {num_in} in, {num_out} out, {len(rejects) - num_warnings or 'no'} rejects{warned}"]
    first: dict[tuple[str, str], Reject] = {}
    for reject in rejects:
        first.setdefault((reject.reason, reject.dropped), reject)
    counts = Counter((reject.reason, reject.dropped) for reject in rejects)
    for (reason, dropped), count in counts.most_common():
        example = first[reason, dropped]
        lines.append(f"  {reason} ({dropped} dropped) {count}, as {example.key}: {example.text}")
    sys.stderr.write("\n".join(lines) + "\n")


def tasks_per_shard(manifest: StageManifest, before: Path, folder: Path, settings: dict[str, Any]) -> list[ShardTask]:
    """One task for each shard of the stage before; the shard made of it keeps its name."""
    tasks = []
    for shard in manifest.shards:
        fingerprint = digest_json([settings, shard.digest])
        file = shard_file(shard.name, fingerprint)
        inputs = ShardBefore(str((before / shard.file).resolve()), shard.digest)
        tasks.append(ShardTask(shard.name, str(folder.resolve()), file, fingerprint, shard.num_rows, inputs))
    return tasks


def run_stage(
    stage: str,
    step: Step,
    plan: Callable[[StageManifest], list[ShardTask]],
    *,
    before: Path,
    folder: Path,
    settings: dict[str, Any],
    max_reject_ratio: float,
    beam: BeamParams,
    measure: Callable[[Sequence[ShardRecord]], dict[str, pa.Table]] | None = None,
) -> None:
    """Run a stage over what the stage before published, and publish its outcome unless too much was rejected.

    measure: makes of the shards' records the tables that are published with them, by the names of their files.
    """
    with writing(folder):
        tasks = plan(load_stage(before))
        records = run_job(ShardStep(step), tasks, known=known_records(folder), params=beam, label=stage)
        rejects = [reject for record in records for reject in record.rejects]
        check_ratio(stage, rejects, sum(record.num_tried for record in records), max_reject_ratio)
        tables = measure(records) if measure else {}
        publish_stage(folder, stage=stage, settings=settings, records=records, before=before, tables=tables)
    num_in, num_out = sum(record.num_in for record in records), sum(record.shard.num_rows for record in records)
    say_outcome(stage, num_in=num_in, num_out=num_out, rejects=rejects)


def publish_stage(
    folder: Path,
    *,
    stage: str,
    settings: dict[str, Any],
    records: Sequence[ShardRecord],
    before: Path,
    tables: Mapping[str, pa.Table] = MappingProxyType({}),
) -> None:
    """Make a version visible: tables and rejects first, the manifest last; then remove what it does not list."""
    for name, table in tables.items():
        with replacing(folder / name) as temporary:
            pq.write_table(table, temporary)
    rejects = [*load_rejects(before), *(reject for record in records for reject in record.rejects)]
    write_rejects(folder / REJECTS_FILE, rejects)
    steps_before = load_stage(before).steps if (before / MANIFEST_FILE).exists() else {}
    content = {
        "stage": stage,
        "steps": {**steps_before, stage: settings},
        "records": [record.to_json() for record in records],
    }
    write_json(folder / MANIFEST_FILE, content)
    remove_unlisted(folder, {record.shard.file for record in records} | {MANIFEST_FILE, REJECTS_FILE, *tables})


def remove_unlisted(folder: Path, listed: set[str]) -> None:
    """Remove what a published version does not need: older shards, and what the job left of its work."""
    remove_work(folder)
    for path in folder.iterdir():
        if path.name not in listed:
            path.unlink()


def write_rejects(path: Path, rejects: Sequence[Reject]) -> None:
    """Write the rejects table, sorted, so that equal rejects are equal bytes."""
    # A name that is no UTF-8 is written with its bytes as escapes.
    columns = [
        {name: str(value).encode("utf-8", "backslashreplace").decode() for name, value in vars(reject).items()}
        for reject in rejects
    ]
    rows = sorted(columns, key=lambda row: tuple(row.values()))
    with replacing(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=REJECT_SCHEMA), temporary)


def read_media_rows(path: Path, indices: Sequence[int] | None = None) -> Iterator[MediaRow]:
    """read_rows() of a shard of MEDIA_SCHEMA. Raises StageError if it lacks a column, as an older Plait left it."""
    for row in read_rows(path, indices):
        if missing := [name for name in MEDIA_SCHEMA.names if name not in row]:
            raise StageError(f"shard {path} is of an older Plait (without {', '.join(missing)}): run 'dvc repro'")
        yield row


def read_rows(path: Path, indices: Sequence[int] | None = None) -> Iterator[MediaRow]:
    """The rows of a stage's shard, all or those at the rising indices, decoded to Python one at a time."""
    wanted = iter(indices) if indices is not None else None
    target = next(wanted, None) if wanted is not None else None
    start = 0
    for batch in iter_batches(path):
        for offset in range(batch.num_rows):
            if wanted is None or start + offset == target:
                yield batch.slice(offset, 1).to_pylist()[0]
                target = next(wanted, None) if wanted is not None else None
        start += batch.num_rows
