"""The same media as the stage before embed leaves them: shards of samples."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import soundfile

from encoding.tasks import Task, frame_paths
from features.rev import digest_json
from features.sample import MEDIA_SCHEMA, media_row
from features.shards import cut_shards, describe_shard, shard_file, shard_name, shard_writer
from pipelines.digests import sample_digests
from pipelines.job import ShardRecord
from pipelines.media.audio import to_pcm16
from pipelines.stage import publish_stage

_FRAME_HZ = 4.0
_SHARD_SAMPLES = 64


def publish_samples(task: Task, paths: Sequence[Path], folder: Path) -> Path:
    """The folder of the stage before embed with the samples of these media in it."""
    by_key = {path.stem: path for path in paths}
    keys = list(by_key)
    records = []
    for span in cut_shards(keys, _SHARD_SAMPLES):
        part = keys[span.start : span.stop]
        name = shard_name(part[0])
        path = folder / shard_file(name, digest_json(part))
        with shard_writer(path, MEDIA_SCHEMA) as writer:
            for key in part:
                writer.append(_row(task, key, by_key[key]))
        records.append(ShardRecord(describe_shard(name, path), digest_json(part), len(part), ()))
    publish_stage(folder, stage=folder.name, settings={}, records=records, before=folder)
    return folder


def _row(task: Task, key: str, path: Path) -> dict[str, Any]:
    identity = {"key": key, "recording": key, "group": key, "split": "train", "variant": 0, "source_digest": "0"}
    row = media_row(**identity, start_s=0.0, **_FIELDS[task.modality](path))
    return {**row, "digests": sample_digests(row)}


def _text_fields(path: Path) -> dict[str, Any]:
    return {"text": path.read_text()}


def _image_fields(path: Path) -> dict[str, Any]:
    return {"image": path.read_bytes()}


def _audio_fields(path: Path) -> dict[str, Any]:
    wave_T, rate_hz = soundfile.read(path, dtype="float32")
    return {"audio": to_pcm16(wave_T), "audio_rate_hz": rate_hz, "audio_start_s": 0.0}


def _video_fields(path: Path) -> dict[str, Any]:
    frames = [frame.read_bytes() for frame in frame_paths(path)]
    return {
        "frames": frames,
        "frame_times_s": [number / _FRAME_HZ for number in range(len(frames))],
        "frames_end_s": len(frames) / _FRAME_HZ,
    }


_FIELDS = {"text": _text_fields, "image": _image_fields, "audio": _audio_fields, "video": _video_fields}
