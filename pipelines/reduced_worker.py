"""The worker of reduced views: the training rows of a base view, and one shard of a view that is reduced from it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from features.errors import ShardError
from features.manifest import view_schema
from features.reasons import Reason
from features.reductions import apply_steps, read_fit
from features.rev import digest_file, feature_key
from features.shards import describe_shard, read_shard
from features.view import View
from features.writing import stored_rows, stored_vectors, view_batch, write_shard
from pipelines.job import Reject, ShardRecord, ShardTask
from pipelines.progress import ShardProgress


@dataclass(frozen=True)
class BaseShard:
    """A shard of the base view; digest: its sha256 as the manifest has it, or will."""

    path: str
    digest: str

    def read(self) -> pa.Table:
        """Its table. Raises ShardError if the file is another: what comes of damage must not get a fresh digest."""
        if digest_file(self.path) != self.digest:
            raise ShardError(f"shard {self.path} is not what the manifest says: delete it and run 'dvc repro'")
        return read_shard(Path(self.path))


def training_rows(shards: Sequence[BaseShard], trains: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """The present vectors of the rows to fit on, in key order, as stored: [vector, dim] a shard, of sequences all.

    trains: bool [row] a shard, which of its rows are training samples and no augmented copies.
    """
    for shard, train_N in zip(shards, trains, strict=True):
        if train_N.any():
            table = shard.read()
            rows = stored_rows(table, np.flatnonzero(train_N & _is_present(table)))
            if rows:
                yield np.concatenate([np.atleast_2d(vectors) for vectors, _ in rows])


@dataclass(frozen=True)
class ReduceShard:
    """Writes one shard of a reduced view from the shard of the same rows of its base.

    rev: of the view, with its fit; base_rev: of its base; dim: length of a reduced vector; fit: path of the fit.
    A row's input is the base's row, so its feature key is made from the feature key of that.
    """

    view: View
    rev: str
    base_rev: str
    dim: int
    fit: str

    def __call__(self, task: ShardTask, progress: ShardProgress) -> ShardRecord:
        base, fitted = task.inputs.read(), read_fit(Path(self.fit))
        is_sequence = self.view.pooling == "sequence"
        schema = view_schema(dim=self.dim, dtype=self.view.dtype, is_sequence=is_sequence)
        keys = base.column("key").to_pylist()
        vectors: list[np.ndarray | None] = [None] * len(keys)
        times: list[np.ndarray | None] = [None] * len(keys)
        rejects = []
        present_N = np.flatnonzero(_is_present(base))
        for row, (stored, times_T2) in zip(present_N.tolist(), stored_rows(base, present_N), strict=True):
            reduced_TD = apply_steps(fitted, np.atleast_2d(stored).astype(np.float64))
            if np.isfinite(stored_vectors(reduced_TD, self.view.dtype)).all():
                vectors[row], times[row] = reduced_TD if is_sequence else reduced_TD[0], times_T2
            else:
                rejects.append(self._reject(keys[row]))
        absent = feature_key(self.base_rev, None)
        inputs = [None if key == absent else key for key in base.column("feature_key").to_pylist()]
        feature_keys = [feature_key(self.rev, key) for key in inputs]
        write_shard(task.path, view_batch(schema, keys, feature_keys, vectors, times if is_sequence else ()))
        progress.add(len(keys), len(rejects))
        progress.report()
        return ShardRecord(describe_shard(task.name, task.path), task.fingerprint, len(keys), tuple(rejects))

    def _reject(self, key: str) -> Reject:
        text = f"view {self.view.name}: the reduced embedding is not finite in {self.view.dtype}"
        return Reject(key, "embed", Reason.NON_FINITE, self.view.input, text)


def _is_present(table: pa.Table) -> np.ndarray:
    return np.asarray(table.column("embedding").is_valid(), bool)
