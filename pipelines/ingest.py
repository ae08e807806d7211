"""Ingest: list the source, measure and digest every file, and write one manifest of recordings."""

import base64
import hashlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from features.errors import ConfigError, SourceError, StageError
from features.manifest import REJECTS_FILE
from features.reasons import MediaError, Reason
from features.rev import digest_code, digest_json
from features.sample import SPLITS, MediaRow
from features.shards import cut_shards, read_shard, replacing, shard_file, shard_name
from pipelines.job import WORK_FOLDER, Reject, ShardTask, remove_work, run_job
from pipelines.lock import writing
from pipelines.params import BeamParams, IngestParams, SplitParams
from pipelines.raw import FILE_COLUMNS, RAW_SCHEMA, RawSample, check_key, open_uri, resolve_uri
from pipelines.sources.listing import list_source
from pipelines.stage import Outcome, ShardStep, check_ratio, remove_unlisted, say_outcome, write_rejects

RAW_MANIFEST = "manifest.parquet"
_SHARD_FILES = 256
_BLOCK_BYTES = 1 << 20


def ingest(params: IngestParams, folder: Path, beam: BeamParams) -> None:
    """Write folder/manifest.parquet (RAW_SCHEMA, sorted by key) and folder/rejects.parquet."""
    rows, rejects, num_listed = list_recordings(params)
    with writing(folder):
        records = _digest_files(rows, folder, beam)
        rejects += [reject for record in records for reject in record.rejects]
        check_ratio("ingest", rejects, num_listed, params.max_reject_ratio)
        paths = [folder / WORK_FOLDER / record.shard.file for record in records]
        table = pa.concat_tables([RAW_SCHEMA.empty_table(), *(read_shard(path) for path in paths)])
        if table.num_rows == 0:
            raise SourceError(f"ingest.source {params.source!r} has no usable sample; first: {rejects[0].text}")
        write_rejects(folder / REJECTS_FILE, rejects)
        with replacing(folder / RAW_MANIFEST) as temporary:
            pq.write_table(table, temporary)
        remove_unlisted(folder, {RAW_MANIFEST, REJECTS_FILE})
    say_outcome("ingest", num_in=num_listed, num_out=table.num_rows, rejects=rejects)


def list_recordings(params: IngestParams) -> tuple[list[dict[str, Any]], list[Reject], int]:
    """What the source names: recordings with their splits, sorted by key, whose files are not digested yet; what of it
    is of no use; and the number of its samples.

    Raises SourceError if it cannot be listed, or its keys, splits and groups contradict each other.
    """
    samples, rejects = list_source(params.source, params.columns)
    num_listed = len(samples) + sum(reject.dropped == "sample" for reject in rejects)
    _check_keys(samples)
    whole, rejected = _drop_unusable(samples)
    return assign_splits(gather_recordings(whole), params.split), [*rejects, *rejected], num_listed


def load_recordings(folder: Path) -> list[dict[str, Any]]:
    """The rows of the manifest that ingest wrote. Raises StageError if it has not run, or the manifest is damaged."""
    rows: list[dict[str, Any]] = read_raw(folder).to_pylist()
    return rows


def read_raw(folder: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """The manifest that ingest wrote, or some of its columns, as load_recordings gives it."""
    path = folder / RAW_MANIFEST
    if not path.is_file():
        raise StageError(f"{path} does not exist, so stage 'ingest' has not finished: run 'dvc repro ingest'")
    try:
        with pq.ParquetFile(path) as file:
            return file.read(columns=columns)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the system's, not of what is in the file
            raise
        said = " ".join(str(error).split())
        raise StageError(f"{path} is no whole Parquet file ({said}): run 'dvc repro -f ingest'") from error


def _check_keys(samples: Sequence[RawSample]) -> None:
    places: dict[str, str] = {}
    for sample in samples:
        check_key(sample.key, sample.where)
        if sample.key in places:
            raise SourceError(
                f"key {sample.key!r} comes twice, at {places[sample.key]} and at {sample.where}: make keys unique"
            )
        places[sample.key] = sample.where
        if sample.split is not None and sample.split not in SPLITS:
            raise SourceError(f"{sample.where}: split is {sample.split!r}; it must be one of {', '.join(SPLITS)}")


def _drop_unusable(samples: Iterable[RawSample]) -> tuple[list[RawSample], list[Reject]]:
    whole, rejects = [], []
    for sample in samples:
        reject = _why_unusable(sample)
        if reject:
            rejects.append(reject)
        else:
            whole.append(sample)
    return whole, rejects


def _why_unusable(sample: RawSample) -> Reject | None:
    if not sample.text and not set(sample.files) & {"image", "audio", "video"}:
        text = f"{sample.where}: it has no text, image, audio or video: complete it or remove it"
        return Reject(sample.key, "ingest", Reason.EMPTY, "sample", text)
    if (sample.start_s is None) != (sample.end_s is None):
        text = f"{sample.where}: start_s is {sample.start_s} and end_s {sample.end_s}: give both or neither"
        return Reject(sample.key, "ingest", Reason.BAD_INTERVAL, "sample", text)
    if sample.start_s is not None and sample.end_s is not None and not 0 <= sample.start_s < sample.end_s:
        text = f"{sample.where}: {sample.start_s} to {sample.end_s} s is no interval: start at 0 or later, end after it"
        return Reject(sample.key, "ingest", Reason.BAD_INTERVAL, "sample", text)
    return None


def gather_recordings(samples: Iterable[RawSample]) -> list[dict[str, Any]]:
    """One row of RAW_SCHEMA a recording, sorted by key.

    Samples that are intervals of the same files become one recording with intervals, so that a file is decoded once
    however many segments it has. Its key is the path of its video or audio without the suffix, and a digest after it
    where that is the key of another one too; its group is the path alone, which no other row of the source can change.
    """
    rows: list[dict[str, Any]] = []
    parts: dict[str, list[RawSample]] = defaultdict(list)
    for sample in samples:
        if sample.start_s is not None and set(sample.files) & {"audio", "video"}:
            parts[digest_json(sample.files)].append(sample)
        else:
            rows.append(_row(sample))
    recordings = {digest: _row_of_segments(segments) for digest, segments in parts.items()}
    taken = Counter(row["key"] for row in (*rows, *recordings.values()))
    for digest, row in recordings.items():
        if taken[row["key"]] > 1:
            row["key"] += f"@{digest[:8]}"
    return sorted((*rows, *recordings.values()), key=lambda row: str(row["key"]))


def _row(sample: RawSample) -> dict[str, Any]:
    return {
        "key": sample.key,
        "where": sample.where,
        "group": _utf8(sample.group),
        "split": sample.split,
        "label": _utf8(sample.label),
        "text": _utf8(sample.text),
        "meta": _meta(sample),
        **{column: sample.files.get(column) for column in FILE_COLUMNS},
        "intervals": [_span(sample)] if sample.start_s is not None else None,
    }


def _span(segment: RawSample) -> dict[str, Any]:
    return {
        "start_s": segment.start_s,
        "end_s": segment.end_s,
        "key": segment.key,
        "text": _utf8(segment.text),
        "label": _utf8(segment.label),
        "meta": _meta(segment),
    }


def _utf8(text: str | None) -> str | None:
    """The text with a question mark for each half of a character, which JSON can escape and no file can hold."""
    return None if text is None else text.encode("utf-8", "replace").decode()


def _meta(sample: RawSample) -> str | None:
    return _utf8(json.dumps(_json_value(sample.meta), sort_keys=True, ensure_ascii=False)) if sample.meta else None


def _json_value(value: Any) -> Any:
    """The value as JSON has it, of whatever type a table's column is: bytes as base64, NaN as null, dates as text."""
    if isinstance(value, dict):
        return {str(name): _json_value(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_json_value(entry) for entry in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value if isinstance(value, str | int | float | None) else str(value)


def _row_of_segments(segments: list[RawSample]) -> dict[str, Any]:
    first = segments[0]
    for field in ("group", "split"):
        values = sorted({str(getattr(segment, field)) for segment in segments})
        if len(values) > 1:
            raise SourceError(
                f"{first.where} and others cut one recording, but give it {field} {values[0]!r} and {values[1]!r}: "
                f"segments of one recording must not straddle splits, so give them one {field}"
            )
    spans = [_span(segment) for segment in sorted(segments, key=lambda segment: (segment.start_s, segment.key))]
    key = first.recording or first.key
    group = first.group or key
    row = _row(RawSample(key=key, where=first.where, group=group, split=first.split, files=first.files))
    return {**row, "intervals": spans}


def assign_splits(rows: list[dict[str, Any]], params: SplitParams) -> list[dict[str, Any]]:
    """The rows with group (the key where none is given) and split (by the group's hash where none is given).

    Raises SourceError if the source puts one group into two splits, ConfigError if the shares leave none for train.
    """
    if params.val + params.test >= 1:
        raise ConfigError(f"ingest.split: val {params.val} and test {params.test} leave nothing for train: lower them")
    given: dict[str, tuple[str, str]] = {}
    for row in rows:
        row["group"] = row["group"] or row["key"]
        if row["split"] is not None:
            split, key = given.setdefault(row["group"], (row["split"], row["key"]))
            if split != row["split"]:
                raise SourceError(
                    f"group {row['group']!r} has {key!r} in {split} and {row['key']!r} in {row['split']}: a group must "
                    "not straddle splits"
                )
    for row in rows:
        row["split"] = given[row["group"]][0] if row["group"] in given else split_of(row["group"], params)
    return rows


def split_of(group: str, params: SplitParams) -> str:
    """The split of a group: a function of its name, the seed and the shares, never of the other groups."""
    digest = hashlib.sha256(f"{params.seed}:{group}".encode()).digest()
    position = int.from_bytes(digest[:8], "little") / 2**64
    if position < params.test:
        return "test"
    return "val" if position < params.test + params.val else "train"


@dataclass(frozen=True)
class DigestFiles:
    """Measures and digests the files of one recording; one that cannot be read makes it a reject."""

    base: str
    schema: ClassVar[pa.Schema] = RAW_SCHEMA

    def read(self, inputs: Any) -> Iterable[MediaRow]:
        return list(inputs)

    def __call__(self, row: MediaRow) -> Outcome:
        measured = {}
        for column in FILE_COLUMNS:
            if row[column] is None:
                continue
            try:
                measured[column] = measure_file(row[column], self.base)
            except MediaError as error:
                text = f"{row['where']}, column {column}: {error}"
                keys = [span["key"] for span in row["intervals"] or ()] or [row["key"]]
                return [], [Reject(key, "ingest", error.reason, "sample", text) for key in keys]
        return [{**row, **measured}], []


def measure_file(ref: dict[str, Any], base: str) -> dict[str, Any]:
    """The FILE value with its size in bytes and the sha256 of its bytes. Raises MediaError if they cannot be had."""
    sha, num_bytes = hashlib.sha256(), 0
    left = ref["size"] if ref["offset"] is not None else None
    try:
        with open_uri(resolve_uri(ref["uri"], base)) as file:
            file.seek(ref["offset"] or 0)
            while block := file.read(_BLOCK_BYTES if left is None else min(_BLOCK_BYTES, left - num_bytes)):
                sha.update(block)
                num_bytes += len(block)
    except FileNotFoundError as error:
        raise MediaError(Reason.MISSING_FILE, f"{ref['uri']!r} does not exist: correct or remove it") from error
    except (OSError, ValueError, ImportError) as error:
        cause = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise MediaError(Reason.UNREADABLE, f"{ref['uri']!r} cannot be read ({cause})") from error
    if left is not None and num_bytes < left:
        text = f"{ref['uri']!r} ends {left - num_bytes} bytes before its member does: fetch it again"
        raise MediaError(Reason.TRUNCATED, text)
    return {**ref, "size": num_bytes, "digest": sha.hexdigest()}


def _digest_files(rows: list[dict[str, Any]], folder: Path, beam: BeamParams) -> list[Any]:
    remove_work(folder)  # files may have changed under the same names: nothing is taken from an earlier run
    work = (folder / WORK_FOLDER).resolve()
    tasks = []
    for span in cut_shards([row["key"] for row in rows], _SHARD_FILES):
        chunk = rows[span.start : span.stop]
        name, fingerprint = shard_name(chunk[0]["key"]), digest_json([chunk, digest_code(__name__)])
        tasks.append(ShardTask(name, str(work), shard_file(name, fingerprint), fingerprint, len(chunk), chunk))
    return run_job(ShardStep(DigestFiles(str(Path.cwd()))), tasks, known={}, params=beam, label="ingest")
