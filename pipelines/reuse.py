"""What a stage made before, to be taken instead of made again."""

from collections.abc import Container, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from features.errors import ShardError
from features.rev import digest_file, digest_json
from features.shards import read_shard
from pipelines.job import ShardRecord, ShardTask, is_published
from pipelines.stage import load_stage

Place = tuple[str, str, int]
"""A sample's shard, the sha256 that it was published with, and the sample's row in it."""

_MAX_OPEN = 8  # shards of the version before, of which a worker has one or two in use


def with_made(
    tasks: Sequence[ShardTask], known: dict[str, ShardRecord], folder: Path, settings: dict[str, Any]
) -> list[ShardTask]:
    """The tasks over raw rows; in a shard that is to be made again, "made" of each row is the place of its media in the
    version that the stage published in the folder, or null.

    known: the records of that version. Nothing is taken from a version of other settings.
    """
    kept = {task.file for task in tasks if is_published(task, known)}
    if not known or len(kept) == len(tasks):
        return list(tasks)
    manifest = load_stage(folder)
    if digest_json(manifest.steps[manifest.stage]) != digest_json(settings):
        return list(tasks)
    places = _find_made(folder, manifest.records, kept)
    return [
        replace(task, inputs=[{**row, "made": places.get(row["source_digest"])} for row in task.inputs])
        for task in tasks
    ]


def _find_made(folder: Path, records: Sequence[ShardRecord], kept: Container[str]) -> dict[str, Place]:
    """Places by source_digest of the samples in shards that are not kept, without those that lost something on the
    way: made again, they are rejected again. Reads the small columns only."""
    places: dict[str, Place] = {}
    for record in records:
        path = folder.resolve() / record.shard.file
        if record.shard.file in kept or not path.exists():
            continue
        shard = read_shard(path, ["key", "source_digest"])
        lossy = {reject.key for reject in record.rejects}
        keys, digests = shard.column("key").to_pylist(), shard.column("source_digest").to_pylist()
        for row, (key, digest) in enumerate(zip(keys, digests, strict=True)):
            if key not in lossy:
                places[digest] = (str(path), record.shard.digest, row)
    return places


def read_made(place: Place, fields: Sequence[str]) -> dict[str, Any]:
    """The fields of the sample at the place.

    Raises ShardError if the shard is not the one that was published: damaged media must not get a fresh digest.
    """
    path, digest, row = place
    values: dict[str, Any] = _open_made(path, digest).select(list(fields)).slice(row, 1).to_pylist()[0]
    return values


@lru_cache(maxsize=_MAX_OPEN)
def _open_made(path: str, digest: str) -> pa.Table:
    """A shard, read through once for all samples that are taken from it."""
    if digest_file(path) != digest:
        raise ShardError(f"shard {path} is not what the manifest says: delete it and run 'dvc repro'")
    return read_shard(Path(path))
