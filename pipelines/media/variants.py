"""Seeded variants of one text, image, audio clip or video clip: pure functions of the input and the generator."""

from collections.abc import Sequence

import cv2
import numpy as np

from pipelines.media.audio import from_pcm16, to_pcm16
from pipelines.media.pixels import decode_pixels, encode_like
from pipelines.media.spans import Span


def vary_order(num_words: int, rng: np.random.Generator, *, drop: float, swap: float) -> list[int]:
    """Places of the words that stay, in their new order: each is left out with probability drop, but for one at least;
    then neighbours are swapped with probability swap."""
    if not num_words:
        return []
    kept = np.flatnonzero(rng.random(num_words) >= drop)
    if not len(kept):
        kept = rng.integers(num_words, size=1)
    order: list[int] = kept.tolist()
    swaps = rng.random(len(order) - 1) < swap
    for index in np.flatnonzero(swaps):
        order[index], order[index + 1] = order[index + 1], order[index]
    return order


def reorder(text: str, words: Sequence[Span] | None, order: Sequence[int]) -> tuple[str, list[Span] | None]:
    """The text's words in this order, and their times: a word that was swapped has the time of the one in whose place
    it is now, so that times rise.

    words: of the text; what is left of them is None where they are not one for one the text's.
    """
    spoken = text.split()
    if not spoken:
        return text, None
    varied = " ".join(spoken[place] for place in order)
    if words is None or len(words) != len(spoken):
        return varied, None
    placed = zip(order, sorted(order), strict=True)
    return varied, [{**words[slot], "text": words[place]["text"]} for place, slot in placed]


def vary_image(encoded: bytes, rng: np.random.Generator, *, crop: float, light: float) -> bytes:
    """Cut off up to a share crop of each side and enlarge again; change brightness and contrast by up to light.

    Size and format (JPEG or PNG) stay.
    """
    return vary_frames([encoded], rng, crop=crop, light=light)[0]


def vary_frames(frames: Sequence[bytes], rng: np.random.Generator, *, crop: float, light: float) -> list[bytes]:
    """Vary all frames of a clip as vary_image does, with the same crop and the same light."""
    share = 1 - crop * rng.random()
    place_2 = rng.random(2)
    contrast, brightness = 1 + light * rng.uniform(-1, 1, 2)
    varied = []
    for encoded in frames:
        pixels_HWC = _relight(_recrop(decode_pixels(encoded), share, place_2), contrast, brightness)
        varied.append(encode_like(encoded, pixels_HWC))
    return varied


def vary_audio(pcm16: bytes, rng: np.random.Generator, *, gain_db: float, snr_db: float) -> bytes:
    """Add white noise snr_db below the clip's level, then change the gain by up to gain_db, less where it would clip.

    The length stays; a silent clip stays silent.
    """
    wave_T = from_pcm16(pcm16)
    noise_T = rng.standard_normal(len(wave_T), dtype=np.float32)
    gain = 10 ** (rng.uniform(-gain_db, gain_db) / 20)
    if not wave_T.any():
        return pcm16
    level = float(np.sqrt(np.mean(np.square(wave_T, dtype=np.float64))))
    noisy_T = wave_T + noise_T * np.float32(level * 10 ** (-snr_db / 20))
    return to_pcm16(noisy_T * np.float32(min(gain, 1 / float(np.max(np.abs(noisy_T))))))


def _recrop(pixels_HWC: np.ndarray, share: float, place_2: np.ndarray) -> np.ndarray:
    """Cut a window with this share of each side, placed within its leeway, and bring it to the old size."""
    height_px, width_px = pixels_HWC.shape[:2]
    window_height_px, window_width_px = max(1, round(height_px * share)), max(1, round(width_px * share))
    top_px = int((height_px - window_height_px + 1) * place_2[0])
    left_px = int((width_px - window_width_px + 1) * place_2[1])
    window_HWC = pixels_HWC[top_px : top_px + window_height_px, left_px : left_px + window_width_px]
    resized: np.ndarray = cv2.resize(window_HWC, (width_px, height_px), interpolation=cv2.INTER_LINEAR)
    return resized


def _relight(pixels_HWC: np.ndarray, contrast: float, brightness: float) -> np.ndarray:
    """Stretch around the picture's mean by contrast, then scale by brightness."""
    mean = float(pixels_HWC.mean())
    lit_HWC = ((pixels_HWC.astype(np.float32) - mean) * contrast + mean) * brightness
    return np.clip(np.rint(lit_HWC), 0, 255).astype(np.uint8)
