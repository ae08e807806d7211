"""Voice activity: where somebody speaks, by Silero VAD with the weights in its package."""

import math
from functools import cache

import numpy as np

from features.encoders.base import Audio, Encoder
from features.encoders.silero import CHUNK, RATE_HZ, SILERO_SHA256, make_silero
from features.view import View
from pipelines.media.audio import from_pcm16
from pipelines.media.spans import Span, span

_PCM_BYTES = 2
_BLOCK_S = 600  # heard at a time, so that memory does not grow with a recording; whole chunks of 32 ms, as _BEFORE_S
_BEFORE_S = 8
_HYSTERESIS = 0.15  # below the threshold speech has ended; between the two it goes on, as the package has it


def voice_spans(
    pcm: bytes,
    rate_hz: int,
    start_s: float,
    *,
    threshold: float,
    max_gap_s: float,
    min_s: float,
    stretch: float = 1.0,
) -> list[Span]:
    """The stretches in which somebody speaks, to 32 ms; see speech_spans(). start_s, stretch: as of Audio."""
    blocks = [
        _hear(pcm, rate_hz, first_s) for first_s in range(0, math.ceil(len(pcm) / _PCM_BYTES / rate_hz), _BLOCK_S)
    ]
    speech_T = np.concatenate([np.empty(0), *(speech_B for speech_B, _ in blocks)])
    times_T2 = start_s + stretch * np.concatenate([np.empty((0, 2)), *(times_B2 for _, times_B2 in blocks)])
    return speech_spans(speech_T, times_T2, threshold=threshold, max_gap_s=max_gap_s, min_s=min_s)


def _hear(pcm: bytes, rate_hz: int, first_s: int) -> tuple[np.ndarray, np.ndarray]:
    """How likely is speech in each stretch of the block that begins at first_s, and when these are, from the start of
    the audio. The model listens from a little before, as it remembers what it has heard."""
    heard_s = max(0, first_s - _BEFORE_S)
    block = pcm[heard_s * rate_hz * _PCM_BYTES : (first_s + _BLOCK_S) * rate_hz * _PCM_BYTES]
    encoder = _load()
    prepared = encoder.prepare(Audio(from_pcm16(block), rate_hz, heard_s))
    (speech_T1,) = (encoder.encode(unit[None])[0] for unit in prepared.units)
    skipped = round((first_s - heard_s) * RATE_HZ / CHUNK)
    return speech_T1[skipped:, 0], prepared.times_T2[skipped:]


def speech_spans(
    speech_T: np.ndarray, times_T2: np.ndarray, *, threshold: float, max_gap_s: float, min_s: float
) -> list[Span]:
    """Spans of speech from how likely each stretch of time is speech.

    speech_T: [stretch]; times_T2: float64 [stretch, (start, end)], one after the other. Speech begins where it is at
    least threshold and goes on while it is not below threshold - 0.15; a pause of up to max_gap_s does not end it.
    What is shorter than min_s then is no speech.
    """
    runs: list[tuple[float, float]] = []
    speaks = False
    for probability, (start_s, end_s) in zip(speech_T.tolist(), times_T2.tolist(), strict=True):
        speaks = probability >= (threshold - _HYSTERESIS if speaks else threshold)
        if speaks and runs and start_s - runs[-1][1] <= max_gap_s:
            runs[-1] = (runs[-1][0], end_s)
        elif speaks:
            runs.append((start_s, end_s))
    return [span(start_s, end_s) for start_s, end_s in runs if end_s - start_s >= min_s]


def weights_digest() -> str:
    """The sha256 of the weights, which is checked when they are loaded."""
    return SILERO_SHA256


@cache
def _load() -> Encoder:
    encoder = make_silero("", View(name="voice", input="audio", encoder="silero-vad", pooling="sequence"))
    encoder.load("cpu")
    return encoder
