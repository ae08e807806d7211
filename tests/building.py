"""Builds a small feature store on disk, as the embed stage would."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.compact import Shards
from features.manifest import SAMPLES_FOLDER, Manifest, view_schema
from features.rev import digest_file, digest_json, feature_key
from features.sample import MODALITIES, REJECT_SCHEMA, SAMPLE_SCHEMA
from features.shards import Shard, cut_shards, describe_shard, shard_file, shard_name, shard_writer
from features.view import StoredView
from features.writing import view_batch, write_shard


def build_store(
    folder: Path,
    samples: list[dict[str, Any]],
    views: dict[str, dict[str, Any]],
    *,
    shard_rows: int = 8,
    rejects: Sequence[dict[str, Any]] = (),
) -> None:
    """Write a feature store.

    samples: at least a key each, sorted by it; other fields of SAMPLE_SCHEMA get plain defaults. views: by name, a
    mapping with "vectors" (an array or None a sample) and optionally "times" (of a sequence), "dtype", "input", "dim",
    "rev" and "inputs" (what stands for the encoder's input of each sample, its key by default).
    """
    rows = [_sample(sample) for sample in samples]
    ranges = cut_shards([row["key"] for row in rows], shard_rows)
    shards = []
    for part in ranges:
        name = shard_name(rows[part.start]["key"])
        path = folder / SAMPLES_FOLDER / shard_file(name, digest_json(rows[part.start : part.stop]))
        with shard_writer(path, SAMPLE_SCHEMA) as writer:
            for row in rows[part.start : part.stop]:
                writer.append(row)
        shards.append(describe_shard(name, path))
    keys = [row["key"] for row in rows]
    stored = {name: _view(folder, name, view, keys, ranges) for name, view in views.items()}
    written = folder / "rejects"
    pq.write_table(pa.Table.from_pylist(list(rejects), schema=REJECT_SCHEMA), written)
    rejects_file = written.rename(folder / shard_file("rejects", digest_file(written), ".parquet")).name
    steps = {"embed": {"shard_samples": shard_rows}}
    Manifest(shards=Shards.of(shards), views=stored, steps=steps, rejects=rejects_file).save(folder)


def _sample(given: dict[str, Any]) -> dict[str, Any]:
    defaults = {
        "recording": given["key"].split("/")[0],
        "group": given["key"].split("/")[0],
        "split": "train",
        "variant": 0,
        "source": f"{given['key']}.mp4",
        "source_digest": digest_json(given["key"]),
        **{f"has_{modality}": True for modality in MODALITIES},
    }
    return {name: {**defaults, **given}.get(name) for name in SAMPLE_SCHEMA.names}


def _view(folder: Path, name: str, view: dict[str, Any], keys: list[str], ranges: list[range]) -> StoredView:
    vectors, times = view["vectors"], view.get("times")
    dtype = view.get("dtype", "float16")
    dim = view.get("dim") or next(vector.shape[-1] for vector in vectors if vector is not None)
    rev, inputs = view.get("rev", digest_json(name)), view.get("inputs", keys)
    schema = view_schema(dim=dim, dtype=dtype, is_sequence=times is not None)
    shards: list[Shard] = []
    for part in ranges:
        rows = slice(part.start, part.stop)
        feature_keys = [feature_key(rev, None if vectors[row] is None else inputs[row]) for row in part]
        batch = view_batch(schema, keys[rows], feature_keys, vectors[rows], times[rows] if times is not None else ())
        shard = shard_name(keys[part.start])
        path = folder / name / shard_file(shard, digest_json([rev, feature_keys]))
        write_shard(path, batch)
        shards.append(describe_shard(shard, path))
    return StoredView(
        name=name,
        rev=rev,
        input=view.get("input", name if name in MODALITIES else "image"),
        encoder="built",
        pooling="mean" if times is None else "sequence",
        dtype=dtype,
        dim=dim,
        code_version="1",
        weights_digest=None,
        definition={},
        files={shard.name: shard.file for shard in shards},
        digests={shard.name: shard.digest for shard in shards},
        num_present=int(np.sum([vector is not None for vector in vectors])),
    )
