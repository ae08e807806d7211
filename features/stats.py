"""What a store holds, counted and measured shard by shard."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from features.reading import ShardReader
from features.sample import MODALITIES, SPLITS
from features.store import Store
from features.view import StoredView


def stats(store: Store) -> dict[str, Any]:
    """Counts and measures of a store, as JSON.

    samples: by split, the total, those with each modality, originals and augmented variants. labels: by split, the
    samples of each label, and unlabelled ones by split. views: rows, present and non-finite embeddings, dimensions
    that never vary, norms; null where there is nothing to measure. rejects: by stage and reason.
    """
    samples, labels, unlabelled = _count_samples(store.reader)
    return {
        "num_samples": len(store),
        "samples": samples,
        "labels": labels,
        "unlabelled": unlabelled,
        "views": {name: _measure_view(store.reader, view) for name, view in store.views.items()},
        "rejects": _count_rejects(store),
    }


def _count_samples(reader: ShardReader) -> tuple[dict[str, Any], dict[str, Any], dict[str, int]]:
    counts = {split: dict.fromkeys(("total", *MODALITIES, "original", "augmented"), 0) for split in SPLITS}
    labels: dict[str, Counter[str | None]] = {split: Counter() for split in SPLITS}
    for index in range(len(reader.shards)):
        table = reader.samples(index)
        split_N = table["split"].to_numpy()
        flags = {modality: table[f"has_{modality}"].to_numpy() for modality in MODALITIES}
        flags["original"] = table["variant"].to_numpy() == 0
        flags["augmented"] = ~flags["original"]
        flags["total"] = np.ones(len(table), dtype=bool)
        for split in SPLITS:
            chosen_N = split_N == split
            for name, flag_N in flags.items():
                counts[split][name] += int((chosen_N & flag_N).sum())
            for entry in table["label"].filter(chosen_N).value_counts().to_pylist():
                labels[split][entry["values"]] += entry["counts"]
    unlabelled = {split: count.pop(None, 0) for split, count in labels.items()}
    balance = {
        split: {str(label): count[label] for label in sorted(map(str, count))} for split, count in labels.items()
    }
    return counts, balance, unlabelled


def _count_rejects(store: Store) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = {}
    for row in store.rejects.select(["stage", "reason"]).to_pylist():
        counts.setdefault(row["stage"], Counter())[row["reason"]] += 1
    return {stage: dict(count.most_common()) for stage, count in counts.items()}


@dataclass
class _Measure:
    """Running measures of vectors that arrive in pieces."""

    dim: int
    num_vectors: int = 0
    norm_sum: float = 0.0
    norms: list[tuple[float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.low_D = np.full(self.dim, np.inf, np.float32)
        self.high_D = np.full(self.dim, -np.inf, np.float32)

    def add(self, finite_VD: np.ndarray) -> None:
        if len(finite_VD):
            norms_V = np.linalg.norm(finite_VD, axis=1)
            self.num_vectors += len(norms_V)
            self.norm_sum += float(norms_V.sum(dtype=np.float64))
            self.norms.append((float(norms_V.min()), float(norms_V.max())))
            self.low_D = np.minimum(self.low_D, finite_VD.min(axis=0))
            self.high_D = np.maximum(self.high_D, finite_VD.max(axis=0))


def _measure_view(reader: ShardReader, view: StoredView) -> dict[str, Any]:
    measure = _Measure(view.dim)
    num_present = num_non_finite = 0
    for present_N, vectors_VD, row_V in _shards(reader, view):
        num_present += int(present_N.sum())
        finite_V = np.isfinite(vectors_VD).all(axis=1)
        num_non_finite += len(np.unique(row_V[~finite_V]))
        measure.add(vectors_VD[finite_V])
    norms = measure.norms
    return {
        "shape": list(view.shape),
        "dtype": view.dtype,
        "rows": reader.num_rows,
        "present": num_present,
        "vectors": measure.num_vectors,
        "non_finite": num_non_finite,
        "dead_dimensions": int((measure.low_D == measure.high_D).sum()) if measure.num_vectors > 1 else None,
        "norm_min": min(low for low, _ in norms) if norms else None,
        "norm_mean": measure.norm_sum / measure.num_vectors if norms else None,
        "norm_max": max(high for _, high in norms) if norms else None,
    }


def _shards(reader: ShardReader, view: StoredView) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """For each shard which rows are present, and the present rows' vectors with the row each belongs to."""
    for index in range(len(reader.shards)):
        present_N = reader.present(view.name, index)
        if view.is_sequence:
            vectors_VD, row_V = reader.sequence_vectors(view.name, index)
            yield present_N, vectors_VD.astype(np.float32), row_V
        else:
            yield present_N, reader.vectors(view.name, index)[present_N].astype(np.float32), np.flatnonzero(present_N)
