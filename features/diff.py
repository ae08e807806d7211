"""What changed between two versions of a store: samples, keys by view, labels, and how the vectors moved."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.drift import Drift, rows_of
from features.pairing import KeyList, Match, sample_files, side_by_side, view_files, whole_shards
from features.reading import ShardReader
from features.sample import SAMPLE_SCHEMA, SPLITS
from features.store import Store
from features.view import StoredView

_DECLARED = ("input", "encoder", "pooling", "dtype", "code_version")


def diff_stores(old: Store, new: Store, *, num_keys: int | None = None) -> dict[str, Any]:
    """What became of the old version in the new one, as JSON. num_keys: how many keys of each kind are listed.

    samples: the keys of the sample table; changed ones have another value in a field, and fields counts which.
    labels: by split and label, and unlabelled by split, the samples in [the old, the new version].
    views_added, views_removed: names. views: by name, those of both: the keys whose embedding is there and was not
    (added), was there and is not (removed), or has another feature key (changed); rev, and under settings what
    differs in it: a view with another rev is computed anew as a whole, otherwise changed keys have other input.
    drift: null where the view's files are the same, else over all present vectors of each version (all vectors of a
    sequence): mean and quantiles of the norm (these within 0.05 %), the share of dimensions that never vary (dead)
    and of those with a value that is not finite; cosine_of_means; cosines: between the two vectors of a key (of
    sequences, their means), over all keys in both versions, if the sizes agree.
    steps: the settings of the steps before embed that differ, by dotted name.

    A shard that is the same file in both is not compared; for counts and drift it is read once, from the new version.
    Memory does not grow with the number of shards. Raises ShardError if a shard is missing or damaged.
    """
    names = [name for name in old.views if name in new.views]
    return {
        "old": {"store": str(old.folder), "samples": len(old)},
        "new": {"store": str(new.folder), "samples": len(new)},
        "samples": _diff_samples(old.reader, new.reader, num_keys),
        **_diff_labels(old.reader, new.reader),
        "views_added": [name for name in new.views if name not in old.views],
        "views_removed": [name for name in old.views if name not in new.views],
        "views": {name: _diff_view(old.reader, new.reader, name, num_keys) for name in names},
        "steps": differing(old.manifest.steps, new.manifest.steps),
    }


def differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Dotted name -> [old value, new value] of all that differs between two nested mappings; None where it is not."""
    before, after = _flat(old), _flat(new)
    return {
        name: [before.get(name), after.get(name)]
        for name in sorted({*before, *after})
        if name not in before or name not in after or before[name] != after[name]
    }


def _flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in nested.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def _diff_samples(old: ShardReader, new: ShardReader, num_keys: int | None) -> dict[str, Any]:
    added, removed, changed = (KeyList(num_keys) for _ in range(3))
    fields: Counter[str] = Counter()
    match = Match.of(sample_files(old), sample_files(new))
    old_parts = whole_shards(match.old_only, lambda index: old.open_samples(index)["key"])
    new_parts = whole_shards(match.new_only, lambda index: new.open_samples(index)["key"])
    for before, after in side_by_side(old_parts, new_parts):
        old_rows, new_rows = ({key: row for row, key in enumerate(part.keys, part.start)} for part in (before, after))
        removed.add(key for key in before.keys if key not in new_rows)
        added.add(key for key in after.keys if key not in old_rows)
        both = [key for key in before.keys if key in new_rows]
        if both:
            old_table = old.open_samples(before.index).take([old_rows[key] for key in both])
            new_table = new.open_samples(after.index).take([new_rows[key] for key in both])
            differs = {name: _differs(old_table[name], new_table[name]) for name in SAMPLE_SCHEMA.names}
            fields.update({name: int(differs_N.sum()) for name, differs_N in differs.items()})
            changed.add(both[row] for row in np.flatnonzero(np.logical_or.reduce(list(differs.values()))))
    kinds = {"added": added, "removed": removed, "changed": changed}
    return {
        **{kind: keys.to_json() for kind, keys in kinds.items()},
        "unchanged": new.num_rows - added.num - changed.num,
        "fields": {name: num for name, num in fields.items() if num},
    }


def _differs(old: Any, new: Any) -> np.ndarray:
    """bool [row], whether two columns differ, where null equals null."""
    if pa.types.is_list(old.type):  # which Arrow does not compare
        return np.array([was != now for was, now in zip(old.to_pylist(), new.to_pylist(), strict=True)], dtype=bool)
    unequal = pc.fill_null(pc.not_equal(old, new), False)
    one_null = pc.not_equal(pc.is_null(old), pc.is_null(new))
    return np.asarray(pc.or_(unequal, one_null).to_numpy(), dtype=bool)


def _diff_labels(old: ShardReader, new: ShardReader) -> dict[str, Any]:
    match = Match.of(sample_files(old), sample_files(new))
    shared = _count_labels(new, match.same)
    counts = shared + _count_labels(old, match.old_only), shared + _count_labels(new, match.new_only)
    labels: dict[str, dict[str, list[int]]] = {split: {} for split in SPLITS}
    for split, label in sorted((split, label) for split, label in counts[0] | counts[1] if label is not None):
        labels[split][label] = [count[split, label] for count in counts]
    return {"labels": labels, "unlabelled": {split: [count[split, None] for count in counts] for split in SPLITS}}


def _count_labels(reader: ShardReader, indices: Iterable[int]) -> Counter[tuple[str, str | None]]:
    counts: Counter[tuple[str, str | None]] = Counter()
    for index in indices:
        table = reader.open_samples(index).select(["split", "label"]).group_by(["split", "label"])
        for row in table.aggregate([([], "count_all")]).to_pylist():
            counts[row["split"], row["label"]] += row["count_all"]
    return counts


def _diff_view(old: ShardReader, new: ShardReader, name: str, num_keys: int | None) -> dict[str, Any]:
    before, after = old.view(name), new.view(name)
    match = Match.of(view_files(old, before), view_files(new, after))
    old_parts = whole_shards(match.old_only, lambda index: old.open_columns(name, index)["key"])
    new_parts = whole_shards(match.new_only, lambda index: new.open_columns(name, index)["key"])
    added, removed, changed = (KeyList(num_keys) for _ in range(3))
    drift = Drift(before.dim, after.dim)
    for old_part, new_part in side_by_side(old_parts, new_parts):
        was, now = rows_of(old, before, old_part), rows_of(new, after, new_part)
        removed.add(key for key in was.feature_keys if key not in now.feature_keys)
        added.add(key for key in now.feature_keys if key not in was.feature_keys)
        both = [key for key in was.feature_keys if key in now.feature_keys]
        changed.add(key for key in both if was.feature_keys[key] != now.feature_keys[key])
        drift.add(was, now, both)
    if match.old_only or match.new_only:
        for part in whole_shards(match.same, lambda index: new.open_columns(name, index)["key"]):
            drift.add_same(rows_of(new, after, part))
    kinds = {"added": added, "removed": removed, "changed": changed}
    return {
        "rev": [before.rev, after.rev],
        "settings": differing(_settings(before), _settings(after)),
        **{kind: keys.to_json() for kind, keys in kinds.items()},
        "unchanged": after.num_present - added.num - changed.num,
        "drift": drift.to_json() if match.old_only or match.new_only else None,
    }


def _settings(view: StoredView) -> dict[str, Any]:
    return {**{name: getattr(view, name) for name in _DECLARED}, **view.definition}
