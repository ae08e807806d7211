"""Voice activity: where somebody speaks, by Silero VAD with the weights in its package."""

from functools import cache

import numpy as np

from features.encoders.base import Audio, Encoder
from features.encoders.silero import SILERO_SHA256, make_silero
from features.view import View
from pipelines.media.audio import from_pcm16
from pipelines.media.spans import Span, span

_HYSTERESIS = 0.15  # below the threshold speech has ended; between the two it goes on, as the package has it


def voice_spans(
    pcm: bytes, rate_hz: int, start_s: float, *, threshold: float, max_gap_s: float, min_s: float
) -> list[Span]:
    """The stretches in which somebody speaks, to 32 ms; see speech_spans(). start_s: when the audio begins."""
    encoder = _load()
    prepared = encoder.prepare(Audio(from_pcm16(pcm), rate_hz, start_s))
    (speech_T1,) = (encoder.encode(unit[None])[0] for unit in prepared.units)
    return speech_spans(speech_T1[:, 0], prepared.times_T2, threshold=threshold, max_gap_s=max_gap_s, min_s=min_s)


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
