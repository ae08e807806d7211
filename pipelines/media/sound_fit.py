"""Whether cues are on where a recording sounds, by its level alone: cheap, and silent unless it is sure."""

from collections.abc import Sequence

import numpy as np

from features.reasons import Reason
from pipelines.media.spans import Notice, Span

_HOP_S = 0.1
_MIN_S, _MIN_SPANS = 60.0, 10  # below, chance alone makes anything fit somewhere
_MAX_SHIFT_S = 30.0
_TREND_S = 30.0  # what changes more slowly, as music under a part of a film, tells nothing of single cues
_MIN_SHIFT_S = 1.0  # subtitles come early and stay on: less is no error
# The best correlation over all shifts with cues of another recording stayed below 2 / sqrt(number of cues) in 3,000
# generated pairs (speech, noise with a memory, beats; 60 s to 20 min); with its own, shifted, it is 0.4 to 0.9.
_SURE = 3.0
_MIN_CORRELATION = 0.3
_MIN_RANGE_DB = 10.0  # between pauses and speech; below, the level does not tell one from the other
_MIN_SHARE = 0.02  # of what sounds, that cues are on for
# As they stand, 120 transcripts of other recordings (two minutes of digits, said one by one or in sentences, with noise
# 15 dB below or bursts up to 10 dB above) had at most 0.10; a recording's own, with a second of slack, at least 0.17.
_NO_CORRELATION, _MIN_SPANS_OF_OTHER = 0.1, 20
_MIN_CHANGE = 0.25  # standard deviation of being on: of cues without pauses between them, nothing can be told


def fit_to_sound(kind: str, spans: Sequence[Span], audio: bytes, rate_hz: int, start_s: float) -> list[Notice]:
    """A notice if the level rises and falls with the intervals only after a shift (which is not applied) or not at all,
    or if hardly anything that sounds lies in them. Of short recordings and few intervals nothing is said.

    audio: mono, signed 16 bit. start_s: when it begins, on the timeline of the intervals.
    """
    level_T = level_db(audio, rate_hz)
    if len(level_T) * _HOP_S < _MIN_S:
        return []
    low, high = np.percentile(level_T, [10, 95])
    if high - low < _MIN_RANGE_DB:
        return []
    on_T = _on(spans, len(level_T), start_s)
    sounds_T = level_T > (low + high) / 2
    share = float(on_T[sounds_T].mean())
    if share < _MIN_SHARE:
        sounding_s = sounds_T.sum() * _HOP_S
        text = (
            f"its {len(spans)} {kind} are on for {share:.1%} of the {sounding_s:.0f} s that sound: are they of another "
        )
        return [Notice(Reason.OTHER_RECORDING, f"{text}recording, or of a part of this one? (nothing is moved)")]
    return _correlated(kind, len(spans), np.clip(level_T, low, high), on_T)


def level_db(audio: bytes, rate_hz: int) -> np.ndarray:
    """Level in each tenth of a second, in decibels below full scale, float64 [time]; a rest at the end is left out."""
    hop = round(rate_hz * _HOP_S)
    pcm_N = np.frombuffer(audio, "<i2")
    frames_TN = pcm_N[: len(pcm_N) // hop * hop].reshape(-1, hop)
    power_T = np.array([np.mean(np.square(frame_N.astype(np.float32))) for frame_N in frames_TN])
    return 10 * np.log10(np.maximum(power_T, 1.0) / 2**30)


def _on(spans: Sequence[Span], num_hops: int, start_s: float) -> np.ndarray:
    """Whether an interval is on, float64 [time]."""
    on_T = np.zeros(num_hops)
    for span in spans:
        first, last = (max(0, round((span[name] - start_s) / _HOP_S)) for name in ("start_s", "end_s"))
        on_T[first:last] = 1
    return on_T


def _correlated(kind: str, num_spans: int, level_T: np.ndarray, on_T: np.ndarray) -> list[Notice]:
    correlation_S = correlate(level_T, on_T)
    middle = len(correlation_S) // 2
    best = int(np.argmax(correlation_S))
    here, there = correlation_S[middle], correlation_S[best]
    is_sure = num_spans >= _MIN_SPANS and there > max(_MIN_CORRELATION, _SURE / np.sqrt(num_spans))
    changes = num_spans >= _MIN_SPANS_OF_OTHER and float(np.std(_without_trend(on_T))) >= _MIN_CHANGE
    if not is_sure and changes and here < _NO_CORRELATION:
        text = (
            f"its {num_spans} {kind} come and go without regard to what sounds (correlation {here:.2f}, at the best "
            f"shift {there:.2f}; 0.3 and more is usual): are they of another recording, or at another speed? (nothing "
            "is moved)"
        )
        return [Notice(Reason.OTHER_RECORDING, text)]
    if not is_sure or here > there / 2 or abs(best - middle) * _HOP_S < _MIN_SHIFT_S:
        return []
    shift_s = (best - middle) * _HOP_S
    text = (
        f"its {num_spans} {kind} would fit what sounds best {shift_s:+.1f} s from where they are (correlation "
        f"{there:.2f}, as they stand {here:.2f}): if that is so, shift their times (nothing is moved)"
    )
    return [Notice(Reason.SHIFTED, text)]


def correlate(level_T: np.ndarray, on_T: np.ndarray) -> np.ndarray:
    """Pearson correlation of the level with the intervals moved later by -30 to 30 s in steps of 0.1 s, without slow
    trends of either, float64 [shift]. What is moved beyond an end is left out."""
    num_shifts = round(_MAX_SHIFT_S / _HOP_S)
    level_T, on_T = _without_trend(level_T), _without_trend(on_T)
    padded = np.pad(on_T, num_shifts)
    product_S = np.correlate(padded, level_T, "valid")[::-1]
    energy = np.concatenate([[0.0], np.cumsum(padded**2)])
    energy_S = (energy[len(level_T) :] - energy[: -len(level_T)])[::-1]
    scale_S = np.sqrt(energy_S * np.sum(level_T**2))
    correlation_S: np.ndarray = np.divide(product_S, scale_S, out=np.zeros_like(product_S), where=scale_S > 0)
    return correlation_S


def _without_trend(values_T: np.ndarray) -> np.ndarray:
    """The values less their mean over 30 s around each."""
    width = round(_TREND_S / _HOP_S)
    ones = np.ones(width)
    num_T = np.convolve(np.ones(len(values_T)), ones, "same")
    trendless_T: np.ndarray = values_T - np.convolve(values_T, ones, "same") / num_T
    return trendless_T
