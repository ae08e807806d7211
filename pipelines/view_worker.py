"""The worker of embed: one shard of one view, from media or from rows that are stored already."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.utils.shared import Shared

from features.encoders.base import Audio, Encoded, Encoder, Media, TimedText, Video, Word
from features.encoders.memory import within_memory
from features.encoders.opening import open_session
from features.encoders.pooling import pool, pooled_dim
from features.encoders.session import Session
from features.encoders.timing import Clock
from features.errors import EncoderError, ShardError
from features.manifest import view_schema
from features.reasons import MediaError, Reason
from features.rev import digest_file, feature_key
from features.sample import TIMED_TEXT, MediaRow
from features.shards import describe_shard, read_shard
from features.view import View
from features.writing import stored_rows, stored_vectors, view_batch, write_shard
from pipelines.digests import check_media
from pipelines.job import Reject, ShardRecord, ShardTask
from pipelines.media.audio import stretch_of
from pipelines.progress import ShardProgress

_FIELDS = {
    "text": ("text",),
    TIMED_TEXT: ("text", "words", "start_s"),
    "image": ("image",),
    "audio": ("audio", "audio_rate_hz", "audio_start_s", "audio_drift_ppm", "start_s"),
    "video": ("frames", "frame_times_s", "frames_end_s", "start_s"),
}

Row = tuple[np.ndarray, np.ndarray | None]
"""A row: its vector or vectors, and for a sequence their times."""


@dataclass(frozen=True)
class Copies:
    """Rows that a file of the published store holds already; digest: the sha256 that it was published with."""

    path: str
    digest: str
    targets_N: np.ndarray  # int32, rows of the shard that is made
    rows_N: np.ndarray  # int32, rows of the file


@dataclass(frozen=True)
class Samples:
    """Where the samples of a shard's rows lie."""

    paths: list[str]
    file_N: np.ndarray  # int32, places in paths
    row_N: np.ndarray  # int32, rows of the file


@dataclass(frozen=True)
class ShardRows:
    """The rows of a view's shard and where each one comes from; a row that nothing names is absent.

    It names no key: runners copy and compress a job's elements several times, and numbers cost them little.
    """

    samples: Samples
    encode_N: np.ndarray  # int32
    repeats: list[tuple[int, int]]  # row, and the one of encode_N whose input is the same
    copies: list[Copies]


@dataclass(frozen=True)
class EncodeShard:
    """Writes one shard of a view. The model is loaded once in a process, and only where there is something to encode.

    rev: of the view; dim: length of a stored vector if it is known without the model; threads: how many run the model
    at once on a CPU.
    """

    view: View
    encoder: Encoder
    device: str
    rev: str
    weights_digest: str | None
    dim: int | None = None
    threads: int = 1
    shared: Shared = field(default_factory=Shared)

    def __call__(self, task: ShardTask, progress: ShardProgress) -> ShardRecord:
        with self._session().attending() if len(task.inputs.encode_N) else nullcontext():
            return self._make(task, progress)

    def _make(self, task: ShardTask, progress: ShardProgress) -> ShardRecord:
        inputs: ShardRows = task.inputs
        is_sequence = self.view.pooling == "sequence"
        schema = view_schema(dim=self._dim(inputs), dtype=self.view.dtype, is_sequence=is_sequence)
        keys, digests = _identities(inputs.samples, self.view.source)
        rows: list[Row | None] = [None] * len(keys)
        _copy(inputs.copies, rows)
        progress.add(len(rows) - len(inputs.encode_N), 0)
        errors = self._encode(inputs, rows, progress)
        rejects = tuple(self._reject(keys[row], error) for row, error in sorted(errors.items()))
        feature_keys = [feature_key(self.rev, digest) for digest in digests]
        vectors = [row[0] if row else None for row in rows]
        times = [row[1] if row else None for row in rows] if is_sequence else ()
        clock = Clock()
        with clock.spending("write"):
            write_shard(task.path, view_batch(schema, keys, feature_keys, vectors, times))
            shard = describe_shard(task.name, task.path)
        progress.report()
        return ShardRecord(shard, task.fingerprint, len(rows), rejects, self._account(inputs, clock))

    def _session(self) -> Session:
        session: Session = self.shared.acquire(self._open_session)
        return session

    def _open_session(self) -> Session:
        """A session over the loaded model. Raises EncoderError if the weights are others than when the run began, or
        memory does not hold the model."""
        # Beam keeps the session of the view before until this one is there, and memory may not hold both models.
        Shared().acquire(_Nothing)
        if self.encoder.definition()["weights_digest"] != self.weights_digest:
            raise EncoderError(
                f"view {self.view.name!r}: the weights of {self.view.encoder!r} changed since the run began: run again"
            )
        with within_memory(self.view, self.device):
            return open_session(self.encoder, self.device, threads=self.threads)

    def _dim(self, inputs: ShardRows) -> int:
        if self.dim is not None and not len(inputs.encode_N):
            return self.dim
        return pooled_dim(self._session().dim, self.view.pooling)

    def _encode(self, inputs: ShardRows, rows: list[Row | None], progress: ShardProgress) -> dict[int, MediaError]:
        """Encode what is to be encoded into the rows, and say by row what could not be."""
        errors: dict[int, MediaError] = {}
        if not len(inputs.encode_N):
            return errors
        for index, outcome in self._session().encode(_media(inputs, self.view.source)):
            made = self._finish(outcome) if isinstance(outcome, Encoded) else outcome
            if isinstance(made, MediaError):
                errors[index] = made
            else:
                rows[index] = made
            progress.add(1, int(isinstance(made, MediaError)))
        for index, first in inputs.repeats:
            rows[index] = rows[first]
            if first in errors:
                errors[index] = errors[first]
        return errors

    def _account(self, inputs: ShardRows, clock: Clock) -> dict[str, Any]:
        """Where time went since the shard before, and how often batches had to be halved."""
        if not len(inputs.encode_N):
            return {}
        session = self._session()
        times = session.take_times()
        times.add(clock.spent_s)
        return {"num_encoded": len(inputs.encode_N), "num_halvings": session.batch_size.num_halvings, **times.spent_s}

    def _finish(self, encoded: Encoded) -> Row | MediaError:
        vector, times = pool(encoded.vectors_TD, encoded.times_T2, self.view.pooling)
        if not np.isfinite(stored_vectors(vector, self.view.dtype)).all():
            return MediaError(Reason.NON_FINITE, f"the embedding is not finite in {self.view.dtype}")
        return vector, times

    def _reject(self, key: str, error: MediaError) -> Reject:
        return Reject(key, "embed", error.reason, self.view.input, f"view {self.view.name}: {error}")


def _copy(copies: Sequence[Copies], rows: list[Row | None]) -> None:
    """Put the stored rows where they belong, exactly as they are.

    Raises ShardError if a file is not the one that was published: a damaged row must not get a fresh digest.
    """
    for copy in copies:
        path = Path(copy.path)
        if digest_file(path) != copy.digest:
            raise ShardError(f"shard {path} is not what the manifest says: delete it and run 'dvc repro'")
        for target, row in zip(copy.targets_N.tolist(), stored_rows(read_shard(path), copy.rows_N), strict=True):
            rows[target] = row


class _Nothing:
    """What holds no model."""


def _identities(samples: Samples, modality: str) -> tuple[list[str], list[str | None]]:
    """The key of each sample, and the digest of its modality."""
    tables = [read_shard(Path(path), ["key", "digests"]) for path in samples.paths]
    starts = np.cumsum([0, *(table.num_rows for table in tables)])
    taken = pa.concat_tables(tables).take(starts[samples.file_N] + samples.row_N)
    return taken.column("key").to_pylist(), pc.struct_field(taken.column("digests"), modality).to_pylist()


def _media(inputs: ShardRows, source: str) -> Iterator[tuple[int, Callable[[], Media]]]:
    """The rows to be encoded, and what reads the media of each."""
    samples, files = inputs.samples, dict[int, MediaFile]()
    for index in inputs.encode_N.tolist():
        file = int(samples.file_N[index])
        if file not in files:  # mapped once
            files[file] = MediaFile(Path(samples.paths[file]), source)
        yield index, partial(files[file].read, int(samples.row_N[index]))


class MediaFile:
    """The media of one source in a shard of samples."""

    def __init__(self, path: Path, source: str) -> None:
        self._path, self._source = path, source
        table = read_shard(path, ["key", "digests", *_FIELDS[source]])
        # At once, since Arrow takes microseconds for each value, and lets another thread in at each.
        self._light = {name: table.column(name).to_pylist() for name in table.column_names if _is_light(table, name)}
        digests = pc.struct_field(table.column("digests"), source).to_pylist()
        self._light["digests"] = [{source: digest} for digest in digests]
        if source == "audio":
            self._light["audio"] = _views(table.column("audio"))
        self._heavy = {name: table.column(name) for name in _FIELDS[source] if name not in self._light}

    def read(self, row: int) -> Media:
        """The media of a row. Raises ShardError if they are not what its digest says: what came of other bytes, be it
        only the news that they cannot be encoded, would be kept under the feature key of the right ones and never made
        again."""
        sample = {name: values[row] for name, values in self._light.items()}
        for name, column in self._heavy.items():
            sample[name] = column[row].as_py()
        check_media(sample, [self._source], str(self._path))
        return as_media(sample, self._source)


def _is_light(table: pa.Table, name: str) -> bool:
    kind = table.schema.field(name).type
    return pa.types.is_primitive(kind) or pa.types.is_string(kind)


def _views(column: pa.ChunkedArray) -> list[memoryview]:
    """The values of a column of large binaries, of which nothing is copied; of a null one anything."""
    views: list[memoryview] = []
    for chunk in column.chunks:
        _, offsets, values = chunk.buffers()
        ends_N = np.frombuffer(offsets, np.int64)[chunk.offset : chunk.offset + len(chunk) + 1]
        content = memoryview(values or b"")
        views += [content[start:end] for start, end in pairwise(ends_N.tolist())]
    return views


def as_media(sample: MediaRow, modality: str) -> Media:
    """One modality of a row of MEDIA_SCHEMA, or its timed text, as an encoder takes it; it must be present."""
    if modality == "audio":
        from features.encoders.vector_kernels import full_scale  # where it is needed: numba takes a while

        wave_T = full_scale(np.frombuffer(sample["audio"], "<i2"))
        start_s, stretch = sample["audio_start_s"] - sample["start_s"], stretch_of(sample["audio_drift_ppm"])
        return Audio(wave_T, sample["audio_rate_hz"], start_s, stretch)
    if modality == TIMED_TEXT and sample["words"] and sample["start_s"] is not None:
        return _timed_text(sample)
    if modality == "video":
        times_s = np.array(sample["frame_times_s"]) - sample["start_s"]
        return Video(sample["frames"], times_s, sample["frames_end_s"] - sample["start_s"])
    media: Media = sample["text" if modality == TIMED_TEXT else modality]
    return media


def _timed_text(sample: MediaRow) -> TimedText:
    zero_s = sample["start_s"]
    words = [Word(word["text"] or "", word["start_s"] - zero_s, word["end_s"] - zero_s) for word in sample["words"]]
    return TimedText(sample["text"], words)
