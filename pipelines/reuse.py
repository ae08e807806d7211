"""What a stage made before, to be taken instead of made again."""

from collections.abc import Container, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from features.rev import digest_json
from features.shards import read_shard
from pipelines.job import ShardRecord, ShardTask, is_published
from pipelines.stage import load_stage

Place = tuple[str, int]
"""A sample's shard and its row in it."""


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
                places[digest] = (str(path), row)
    return places


def read_made(place: Place, fields: Sequence[str]) -> dict[str, Any]:
    """The fields of the sample at the place."""
    path, row = place
    values: dict[str, Any] = read_shard(Path(path), fields).slice(row, 1).to_pylist()[0]
    return values
