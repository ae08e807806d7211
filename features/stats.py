"""What a store holds, counted and measured shard by shard."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from features.measures import Distribution, VectorMeasure
from features.reading import ShardReader
from features.repeats import find_repeats, hash_rows
from features.sample import MODALITIES, SPLITS
from features.store import Store
from features.view import StoredView

_MIX = np.uint64(0x9E3779B97F4A7C15)  # odd, so that multiplying loses nothing


def stats(store: Store) -> dict[str, Any]:
    """Counts and measures of a store, as JSON.

    samples, labels, unlabelled: as count_samples() has them. modalities: of the samples, by which modalities they have
    together, and by pairs. views: of each its count, values, norms, dimensions, repeats and lengths; null where there
    is nothing to measure. repeats: samples whose every input is that of a sample before. rejects: by stage and reason,
    and apart from them warnings, which drop nothing.
    One shard is read at a time. What grows with the store are the hashes by which repeats are found: 8 bytes a row of
    the samples and of the view at hand, twice, and about 50 more a row while they are sorted.
    """
    counts = _SampleCounts()
    for index in range(len(store.reader.shards)):
        counts.add(store.reader.open_samples(index))
    split_R = np.concatenate([np.empty(0, np.uint8), *counts.splits])
    views = {}
    input_R, is_present_R = np.zeros(len(store), np.uint64), np.zeros(len(store), dtype=bool)
    for name, view in store.views.items():
        views[name], hash_R, row_N = _measure_view(store.reader, view, split_R)
        input_R = input_R * _MIX + hash_R
        is_present_R[row_N] = True
    present_N = np.flatnonzero(is_present_R)
    return {
        "num_samples": len(store),
        **counts.samples(),
        "modalities": counts.modalities(),
        "views": views,
        "repeats": find_repeats(input_R[present_N], present_N, split_R, store.reader.key_at),
        "rejects": _count_rejects(store, is_warning=False),
        "warnings": _count_rejects(store, is_warning=True),
    }


def count_samples(store: Store) -> dict[str, Any]:
    """Counts of samples and labels, as JSON.

    samples: by split the total, those with each modality, originals and augmented variants, and the seconds that the
    originals last. labels: by split the samples of each label, the commonest first; unlabelled: the others.
    """
    counts = _SampleCounts()
    for index in range(len(store.reader.shards)):
        counts.add(store.reader.open_samples(index))
    return counts.samples()


@dataclass
class _SampleCounts:
    """Running counts of samples."""

    counts: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {
            split: {**dict.fromkeys(("total", *MODALITIES, "original", "augmented"), 0), "seconds": 0.0}
            for split in SPLITS
        }
    )
    labels: dict[str, Counter[str | None]] = field(default_factory=lambda: {split: Counter() for split in SPLITS})
    together: Counter[int] = field(default_factory=Counter)  # by the bits of the modalities
    splits: list[np.ndarray] = field(default_factory=list)  # uint8 [row] a shard: the place in SPLITS

    def add(self, table: pa.Table) -> None:
        """Count the samples of a shard."""
        split_N = table["split"].to_numpy()
        flags = {modality: table[f"has_{modality}"].to_numpy() for modality in MODALITIES}
        bits_N = sum(flag_N.astype(np.int64) << place for place, flag_N in enumerate(flags.values()))
        self.together.update(Counter(np.asarray(bits_N).tolist()))
        flags["original"] = table["variant"].to_numpy() == 0
        flags["augmented"] = ~flags["original"]
        flags["total"] = np.ones(len(table), dtype=bool)
        seconds_N = np.nan_to_num(table["end_s"].to_numpy() - table["start_s"].to_numpy())
        numbers_N = np.full(len(table), len(SPLITS), np.uint8)
        for number, split in enumerate(SPLITS):
            chosen_N = split_N == split
            numbers_N[chosen_N] = number
            for name, flag_N in flags.items():
                self.counts[split][name] += int((chosen_N & flag_N).sum())
            self.counts[split]["seconds"] += float(seconds_N[chosen_N & flags["original"]].sum())
            for entry in table["label"].filter(chosen_N).value_counts().to_pylist():
                self.labels[split][entry["values"]] += entry["counts"]
        self.splits.append(numbers_N)

    def samples(self) -> dict[str, Any]:
        """What count_samples() gives."""
        return {
            "samples": self.counts,
            "labels": {split: _commonest_first(count) for split, count in self.labels.items()},
            "unlabelled": {split: count[None] for split, count in self.labels.items()},
        }

    def modalities(self) -> dict[str, Any]:
        """How many samples have which modalities together (the commonest first), and each pair of them."""
        bit = {modality: 1 << place for place, modality in enumerate(MODALITIES)}
        commonest = sorted(self.together.items(), key=lambda entry: (-entry[1], -entry[0]))
        return {
            "together": [
                {"modalities": [name for name in MODALITIES if bits & bit[name]], "samples": count}
                for bits, count in commonest
            ],
            "pairs": {
                one: {
                    other: sum(count for bits, count in commonest if bits & bit[one] and bits & bit[other])
                    for other in MODALITIES
                }
                for one in MODALITIES
            },
        }


def _commonest_first(count: Counter[str | None]) -> dict[str, int]:
    named = [(label, num) for label, num in count.items() if label is not None]
    return dict(sorted(named, key=lambda entry: (-entry[1], entry[0])))


def _count_rejects(store: Store, *, is_warning: bool) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = {}
    for row in store.rejects.select(["stage", "reason", "dropped"]).to_pylist():
        if (row["dropped"] == "nothing") == is_warning:
            counts.setdefault(row["stage"], Counter())[row["reason"]] += 1
    return {stage: dict(count.most_common()) for stage, count in counts.items()}


def _measure_view(
    reader: ShardReader, view: StoredView, split_R: np.ndarray
) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """The measures of a view; uint64 [row], a hash of each row's feature key; and the rows that are present."""
    measure, lengths = VectorMeasure(view.dim), Distribution(whole=True)
    rows, hashes, inputs = [], [], []
    num_non_finite = 0
    for index, start in enumerate(reader.starts[:-1]):
        present_N, vectors_VD, row_V = _vectors(reader, view, index)
        finite_V = measure.add(vectors_VD)
        num_non_finite += len(np.unique(row_V[~finite_V]))
        row_N = np.flatnonzero(present_N)
        ends = np.searchsorted(row_V, [row_N, row_N + 1])
        lengths.add(ends[1] - ends[0])
        taken = np.ascontiguousarray(vectors_VD).reshape(-1).view(np.uint8).data
        width = vectors_VD.itemsize * view.dim
        hashes.append(hash_rows(taken[first * width : last * width] for first, last in ends.T.tolist()))
        rows.append(start + row_N)
        inputs.append(
            hash_rows(key.encode() for key in reader.open_columns(view.name, index)["feature_key"].to_pylist())
        )
    row_N = np.concatenate([np.empty(0, np.int64), *rows])
    input_R = np.concatenate([np.empty(0, np.uint64), *inputs])
    hash_N = np.concatenate([np.empty(0, np.uint64), *hashes])
    deviation_D = measure.deviations()
    found = {
        "input": view.input,
        "encoder": view.encoder,
        "pooling": view.pooling,
        "shape": list(view.shape),
        "dtype": view.dtype,
        "rows": reader.num_rows,
        "present": len(row_N),
        "non_finite": num_non_finite,
        "vectors": measure.num,
        "dead_dimensions": None if deviation_D is None else int((deviation_D == 0).sum()),
        "deviations": None if deviation_D is None else deviation_D.tolist(),
        "norm": measure.norms.summary(),
        "length": lengths.summary() if view.is_sequence else None,
        "equal_embeddings": find_repeats(hash_N, row_N, split_R, reader.key_at),
        "equal_inputs": find_repeats(input_R[row_N], row_N, split_R, reader.key_at),
    }
    return found, input_R, row_N


def _vectors(reader: ShardReader, view: StoredView, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of a shard which rows are present, the present rows' vectors, and the row that each belongs to, rising."""
    present_N = reader.present(view.name, index)
    if view.is_sequence:
        return present_N, *reader.sequence_vectors(view.name, index)
    vectors_ND = reader.vectors(view.name, index)
    return present_N, vectors_ND if present_N.all() else vectors_ND[present_N], np.flatnonzero(present_N)
