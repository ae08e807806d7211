"""The media of benchmarks/embed.py: made once, as files, and as what embed takes."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import soundfile

from features.rev import digest_json
from features.sample import MEDIA_SCHEMA, media_row
from features.shards import cut_shards, describe_shard, shard_file, shard_name, shard_writer
from pipelines.digests import sample_digests
from pipelines.job import ShardRecord
from pipelines.media.audio import to_pcm16
from pipelines.stage import publish_stage

RATE_HZ = 16_000
FRAME_HZ = 4.0
_SHARD_SAMPLES = 64  # of the stage before embed, whose shards hold media


@dataclass(frozen=True)
class Task:
    """One model over one kind of media; number: of the samples in a full run; view: what params.yaml would declare."""

    name: str
    modality: str
    number: int
    view: dict[str, Any]


TASKS = {
    task.name: task
    for task in (
        Task("MiniLM, sentences", "text", 20_000, {"encoder": "minilm"}),
        Task("EfficientNet-Lite0, JPEGs", "image", 5_000, {"encoder": "efficientnet-lite0"}),
        Task("log-mel and MFCC, clips", "audio", 5_000, {"encoder": "logmel-mfcc", "pooling": "mean_std"}),
        Task("EfficientNet-Lite0, frames of clips", "video", 200, {"encoder": "efficientnet-lite0"}),
    )
}


def key_of(number: int) -> str:
    return f"sample{number:06d}"


def make_media(task: Task, folder: Path, num_samples: int) -> None:
    """Write the media as files: a text, a JPEG, a WAV, or a folder of JPEGs for each sample."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(num_samples):
        for name, content in _MAKERS[task.modality](rng):
            path = folder / key_of(number) / name if task.modality == "video" else folder / f"{key_of(number)}{name}"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)


def media_paths(task: Task, folder: Path) -> list[Path]:
    """A path for each sample, in the order of the keys."""
    return sorted(folder.iterdir())


def frame_paths(clip: Path) -> list[Path]:
    return sorted(clip.iterdir())


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
        "frame_times_s": [number / FRAME_HZ for number in range(len(frames))],
        "frames_end_s": len(frames) / FRAME_HZ,
    }


_FIELDS = {"text": _text_fields, "image": _image_fields, "audio": _audio_fields, "video": _video_fields}


def _sentence(rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """3 to 60 words, most often about a dozen, of a vocabulary with a tail as natural ones have."""
    num_words = int(np.clip(rng.lognormal(2.5, 0.6), 3, 60))
    words = (_VOCABULARY[min(int(rank) - 1, len(_VOCABULARY) - 1)] for rank in rng.zipf(1.3, num_words))
    yield ".txt", " ".join(words).capitalize().encode() + b"."


def _photo(rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    yield ".jpg", _jpeg(_pixels(rng, int(rng.integers(240, 512)), int(rng.integers(240, 512))))


def _sound(rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """One to three seconds of noise whose level wanders."""
    num = int(rng.integers(RATE_HZ, 3 * RATE_HZ))
    level_T = np.interp(np.arange(num), np.linspace(0, num, 20), rng.uniform(0.01, 0.3, 20))
    buffer = io.BytesIO()
    soundfile.write(buffer, rng.normal(size=num).clip(-3, 3) * level_T, RATE_HZ, format="WAV", subtype="PCM_16")
    yield ".wav", buffer.getvalue()


def _clip(rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """Two to six seconds of a picture that moves."""
    pixels_HWC = _pixels(rng, 256, 320)
    for frame in range(int(rng.integers(2 * FRAME_HZ, 6 * FRAME_HZ))):
        yield f"{frame:04d}.jpg", _jpeg(np.roll(pixels_HWC, 5 * frame, axis=1))


def _pixels(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Patches of colour with some grain: what JPEG decoders find in a photograph."""
    coarse_HWC = rng.integers(0, 256, (height // 24, width // 24, 3), np.uint8)
    smooth_HWC = cv2.resize(coarse_HWC, (width, height), interpolation=cv2.INTER_CUBIC)
    return cv2.add(smooth_HWC, rng.integers(0, 24, smooth_HWC.shape, np.uint8))


def _jpeg(pixels_HWC: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", pixels_HWC, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


_MAKERS = {"text": _sentence, "image": _photo, "audio": _sound, "video": _clip}
_VOCABULARY = [
    f"{first}{middle}{last}"
    for middle in ("a", "e", "i", "o", "u", "ea", "ou")
    for first in ("b", "c", "d", "f", "g", "h", "l", "m", "n", "p", "r", "s", "t", "w", "st", "tr")
    for last in ("d", "n", "r", "s", "t", "ll", "st", "ck")
]
