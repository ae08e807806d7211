"""The media of benchmarks/embed.py as files, made once."""

import io
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import soundfile

from encoding.tasks import Task

_RATE_HZ = 16_000
_FRAME_HZ = 4


def make_media(task: Task, folder: Path, num_samples: int) -> None:
    """Write the media as files: a text, a JPEG, a WAV, or a folder of JPEGs for each sample."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(num_samples):
        key = f"sample{number:06d}"
        for name, content in _MAKERS[task.modality](rng):
            path = folder / key / name if task.modality == "video" else folder / f"{key}{name}"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)


def _sentence(rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """3 to 60 words, most often about a dozen, of a vocabulary with a tail as natural ones have."""
    num_words = int(np.clip(rng.lognormal(2.5, 0.6), 3, 60))
    words = (_VOCABULARY[min(int(rank) - 1, len(_VOCABULARY) - 1)] for rank in rng.zipf(1.3, num_words))
    yield ".txt", " ".join(words).capitalize().encode() + b"."


def _photo(rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    yield ".jpg", _jpeg(_pixels(rng, int(rng.integers(240, 512)), int(rng.integers(240, 512))))


def _sound(rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """One to three seconds of noise whose level wanders."""
    num = int(rng.integers(_RATE_HZ, 3 * _RATE_HZ))
    level_T = np.interp(np.arange(num), np.linspace(0, num, 20), rng.uniform(0.01, 0.3, 20))
    buffer = io.BytesIO()
    soundfile.write(buffer, rng.normal(size=num).clip(-3, 3) * level_T, _RATE_HZ, format="WAV", subtype="PCM_16")
    yield ".wav", buffer.getvalue()


def _clip(rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """Two to six seconds of a picture that moves."""
    pixels_HWC = _pixels(rng, 256, 320)
    for frame in range(int(rng.integers(2 * _FRAME_HZ, 6 * _FRAME_HZ))):
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
