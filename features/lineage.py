"""Where a sample comes from: raw files, the steps with their parameters, encoders, and where each row is stored."""

import hashlib
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.errors import StoreError
from features.files import StoreFiles
from features.manifest import MANIFEST_FILE, SAMPLES_FOLDER
from features.rev import digest_bytes
from features.store import Store
from features.streaming import PACKED, member_stem
from features.versions import commit_of, file_beside

_STEPS = ("ingest", "clean", "align", "augment")  # in the order in which a sample passes them
_VARIANT_STEP = "augment"


def trace(store: Store, key: str) -> dict[str, Any]:
    """Where a sample comes from and where it is, or why it was lost, as JSON.

    sample: its row of the sample table, and that row's place; null if the key was lost. source: the raw files of its
    recording with URI, size in bytes and sha256, and its text, which ingest took in, with the sha256 of its UTF-8, by
    what ingest wrote for this version, or else (files null) what the store itself knows. steps: the settings of the
    steps that it passed, in order. views: by name, encoder, digest of the weights, rev, feature key, and the row's
    place; of a reduced view, whose encoder is the steps, also its fit. packed: the tar that holds it, null if the
    packed shards are of another version. rejects: what was lost of the key, or of what it is a part of. version: the
    commit and tags.
    Raises StoreError with the nearest key if the store has neither a sample nor a reject of the key.
    """
    rejects = _rejects(store, key)
    try:
        row = int(store.reader.locate([key])[0])
    except StoreError:
        lost = [reject for reject in rejects if reject["dropped"] != "nothing"]
        if not lost and (part := next((name for name in store.keys if name.startswith(f"{key}/")), None)):
            raise StoreError(f"{store.folder} has no sample {key!r}, but parts of it: ask for {part!r}") from None
        if not lost:
            raise
        sample, views = None, {}
    else:
        index = int(np.searchsorted(store.reader.starts, row, side="right")) - 1
        offset = row - int(store.reader.starts[index])
        sample, views = _sample(store, index, offset), _views(store, index, offset)
    return {
        "key": key,
        "store": str(store.folder),
        "version": commit_of(store.files),
        "source": _source(store.files, key, sample),
        "steps": _steps(store, sample) if sample else {},
        "sample": sample,
        "views": views,
        "packed": _packed(store.files, sample) if sample else None,
        "rejects": rejects,
    }


def _rejects(store: Store, key: str) -> list[dict[str, Any]]:
    """Rejects of the key and of all that it is a part of, the nearest first: what is odd about a recording, or was lost
    of it, holds for its segments."""
    table = store.rejects
    found: list[dict[str, Any]] = []
    for name in _wholes(key):
        found += table.filter(pc.equal(table["key"], name)).to_pylist()
    return found


def _wholes(key: str) -> list[str]:
    """The key and those of what it is a part of: its original, the segment that was divided, its recording."""
    names = list(dict.fromkeys([key, key.partition("~")[0]]))
    while "/" in names[-1]:
        names.append(names[-1].rpartition("/")[0])
    return names


def _sample(store: Store, index: int, offset: int) -> dict[str, Any]:
    """A row of the sample table, by shard and place in it."""
    shard = store.reader.shards[index]
    place = {"file": f"{SAMPLES_FOLDER}/{shard.file}", "row": offset, "sha256": shard.digest}
    return {**store.reader.open_samples(index).slice(offset, 1).to_pylist()[0], "stored": place}


def _views(store: Store, index: int, offset: int) -> dict[str, Any]:
    """By view, what was computed for that row."""
    shard = store.reader.shards[index]
    found = {}
    for name, view in store.views.items():
        columns = store.reader.open_columns(name, index)
        found[name] = {
            "input": view.input,
            "made_from": view.made_from,
            "present": columns["embedding"][offset].is_valid,
            "encoder": view.encoder,
            "weights_digest": view.weights_digest,
            "pooling": view.pooling,
            "dtype": view.dtype,
            "rev": view.rev,
            "feature_key": columns["feature_key"][offset].as_py(),
            "definition": view.definition,
            "stored": {"file": f"{name}/{view.files[shard.name]}", "row": offset, "sha256": view.digests[shard.name]},
        }
        if view.fit:
            found[name]["fit"] = {"file": f"{name}/{view.fit_file}", "sha256": view.fit}
    return found


def _steps(store: Store, sample: dict[str, Any]) -> dict[str, Any]:
    """The settings of the steps that the sample passed: an original was not augmented."""
    steps = store.manifest.steps
    names = [name for name in _STEPS if name in steps] + [name for name in steps if name not in _STEPS]
    return {name: steps[name] for name in names if name != _VARIANT_STEP or sample["variant"]}


def _source(files: StoreFiles, key: str, sample: dict[str, Any] | None) -> dict[str, Any]:
    """The raw files of a sample's recording; of one that was lost, of what its key is a part of. files is None where
    what ingest wrote does not tell."""
    path = file_beside(files, "ingest", "manifest.parquet")
    known = sample or {}
    found = {"digest": known.get("source_digest"), "uris": known.get("source"), "files": None, "text": None}
    if path is None:
        return found
    names = [sample["recording"]] if sample else _wholes(key)
    recordings = pq.read_table(path, filters=pc.field("key").isin(names))
    for row in recordings.to_pylist():
        columns = [field.name for field in recordings.schema if pa.types.is_struct(field.type)]
        found["files"] = {name: row[name] for name in columns if row[name] is not None and "uri" in row[name]}
        if row["text"] is not None:
            found["text"] = {"chars": len(row["text"]), "digest": hashlib.sha256(row["text"].encode()).hexdigest()}
    return found


def _packed(files: StoreFiles, sample: dict[str, Any]) -> dict[str, Any] | None:
    """The tar of a sample and the stem of its members there."""
    path = file_beside(files, PACKED, MANIFEST_FILE)
    content = json.loads(path.read_bytes()) if path else {}
    if content.get("store") != digest_bytes(files.manifest):
        return None
    for shard in (record["shard"] for record in content["records"]):
        is_split = shard["file"].startswith(f"{sample['split']}-")
        if is_split and shard["first_key"] <= sample["key"] <= shard["last_key"]:
            return {"file": shard["file"], "members": f"{member_stem(sample['key'])}.*", "sha256": shard["digest"]}
    return None
