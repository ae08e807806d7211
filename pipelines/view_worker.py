"""The worker of embed: one shard of one view, from media or from rows that are stored already."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from apache_beam.utils.shared import Shared

from features.encoders.base import Audio, Encoded, Encoder, Media, Video
from features.encoders.batching import encode_samples
from features.encoders.pooling import pool, pooled_dim
from features.manifest import view_schema
from features.reasons import MediaError, Reason
from features.sample import modality_field
from features.shards import describe_shard, read_shard
from features.view import View
from features.writing import stored_vectors, view_batch, write_view_shard
from pipelines.job import Reject, ShardRecord, ShardTask
from pipelines.media.audio import from_pcm16
from pipelines.progress import ShardProgress

Row = tuple[np.ndarray, np.ndarray | None]
"""A stored row: its vector or vectors, and for a sequence their times."""


@dataclass(frozen=True)
class ShardRows:
    """The rows of a view's shard: where their media are, and where the published store holds the row already."""

    keys: list[str]
    feature_keys: list[str]
    media: list[tuple[str, int]]
    stored: list[tuple[str, int] | None]


class _Loaded:
    """An encoder whose model is in memory; a class of its own, since Beam shares only what can be weakly referenced."""

    def __init__(self, encoder: Encoder, device: str) -> None:
        encoder.load(device)
        self.encoder = encoder


@dataclass(frozen=True)
class EncodeShard:
    """Writes one shard of a view. The model is loaded once in a process, however many shards it makes."""

    view: View
    encoder: Encoder
    device: str
    shared: Shared = field(default_factory=Shared)

    def __call__(self, task: ShardTask, progress: ShardProgress) -> ShardRecord:
        encoder = self.shared.acquire(lambda: _Loaded(self.encoder, self.device)).encoder
        schema = view_schema(
            dim=pooled_dim(encoder.dim, self.view.pooling),
            dtype=self.view.dtype,
            is_sequence=self.view.pooling == "sequence",
        )
        rows, rejects = self._rows(task.inputs, encoder, schema, progress)
        vectors = [row[0] if row else None for row in rows]
        times = [row[1] if row else None for row in rows] if self.view.pooling == "sequence" else ()
        batch = view_batch(schema, task.inputs.keys, task.inputs.feature_keys, vectors, times)
        write_view_shard(task.path, batch)
        progress.report()
        return ShardRecord(describe_shard(task.name, task.path), task.fingerprint, len(rows), tuple(rejects))

    def _rows(
        self, inputs: ShardRows, encoder: Encoder, schema: pa.Schema, progress: ShardProgress
    ) -> tuple[list[Row | None], list[Reject]]:
        rows: list[Row | None] = [None] * len(inputs.keys)
        rejects = []
        for index, row in self._stored(inputs):
            rows[index] = row
            progress.add(1, 0)
        for index, outcome in encode_samples(encoder, self._media(inputs)):
            made = self._finish(outcome, schema) if isinstance(outcome, Encoded) else outcome
            if isinstance(made, MediaError):
                text = f"view {self.view.name}: {made}"
                rejects.append(Reject(inputs.keys[index], "embed", made.reason, self.view.input, text))
            else:
                rows[index] = made
            progress.add(1, int(isinstance(made, MediaError)))
        progress.add(sum(row is None for row in rows) - len(rejects), 0)  # absent: there was nothing to do
        return rows, rejects

    def _finish(self, encoded: Encoded, schema: pa.Schema) -> Row | MediaError:
        vector, times = pool(encoded.vectors_TD, encoded.times_T2, self.view.pooling)
        if not np.isfinite(stored_vectors(vector, schema)).all():
            return MediaError(Reason.NON_FINITE, f"the embedding is not finite in {self.view.dtype}")
        return vector, times

    def _stored(self, inputs: ShardRows) -> Iterator[tuple[int, Row]]:
        """Rows of the published store, exactly as they are there."""
        tables = _Tables()
        for index, place in enumerate(inputs.stored):
            if place is None:
                continue
            table, row = tables.open(place[0]), place[1]
            embedding = table.column("embedding")[row]
            if self.view.pooling == "sequence":
                times = [table.column(name)[row].values.to_numpy() for name in ("start_s", "end_s")]
                values = embedding.values
                yield index, (values.flatten().to_numpy().reshape(len(values), -1), np.stack(times, axis=1))
            else:
                yield index, (embedding.values.to_numpy(), None)

    def _media(self, inputs: ShardRows) -> Iterator[tuple[int, Media]]:
        tables = _Tables()
        for index, (path, row) in enumerate(inputs.media):
            table = tables.open(path)
            if inputs.stored[index] is None and table.column(modality_field(self.view.input))[row].is_valid:
                yield index, read_media(table, row, self.view.input)


class _Tables:
    """Shards that are open, so that each is mapped once."""

    def __init__(self) -> None:
        self._tables: dict[str, pa.Table] = {}

    def open(self, path: str) -> pa.Table:
        if path not in self._tables:
            self._tables[path] = read_shard(Path(path))
        return self._tables[path]


def read_media(table: pa.Table, row: int, modality: str) -> Media:
    """One modality of one row of MEDIA_SCHEMA as an encoder takes it; it must be present."""

    def value(name: str) -> Any:
        return table.column(name)[row].as_py()

    if modality == "audio":
        return Audio(from_pcm16(value("audio")), value("audio_rate_hz"), value("audio_start_s") - value("start_s"))
    if modality == "video":
        start_s = value("start_s")
        times_s = np.array(value("frame_times_s")) - start_s
        return Video(value("frames"), times_s, value("frames_end_s") - start_s)
    media: Media = value(modality)
    return media
