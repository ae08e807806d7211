"""Where somebody speaks."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.media import voice
from pipelines.media.audio import to_pcm16
from pipelines.media.voice import speech_spans, voice_spans
from pipelines.synthesis.speech import VOICE_RATE_HZ, Voice, say_words

RATE_HZ = 16_000


def speech(*probabilities: float, **params: float) -> list[tuple[float, float]]:
    """Spans in chunks of a second."""
    times_T2 = np.stack([np.arange(len(probabilities)), np.arange(len(probabilities)) + 1.0], axis=1)
    params = {"threshold": 0.5, "max_gap_s": 0.0, "min_s": 0.0, **params}
    return [(one["start_s"], one["end_s"]) for one in speech_spans(np.array(probabilities), times_T2, **params)]


def test_speech_goes_on_until_it_is_well_below_the_threshold() -> None:
    assert speech(0.4, 0.5, 0.4, 0.36, 0.34, 0.4) == [(1, 4)]
    assert speech(0.1, 0.2) == []


def test_speech_has_short_pauses_and_is_not_short_itself() -> None:
    assert speech(0.9, 0.1, 0.9, 0.1, 0.1, 0.9) == [(0, 1), (2, 3), (5, 6)]
    assert speech(0.9, 0.1, 0.9, 0.1, 0.1, 0.9, max_gap_s=1.0) == [(0, 3), (5, 6)]
    assert speech(0.9, 0.1, 0.9, 0.1, 0.1, 0.9, max_gap_s=1.0, min_s=2.0) == [(0, 3)]


@given(st.lists(st.floats(0, 1), max_size=40), st.integers(0, 5), st.integers(0, 5))
def test_speech_spans_rise_with_long_pauses_between(values: list[float], gap_s: int, min_s: int) -> None:
    found = speech(*values, max_gap_s=gap_s, min_s=min_s)
    assert all(end_s - start_s >= max(min_s, 1) for start_s, end_s in found)
    assert all(after[0] - before[1] > gap_s for before, after in pairwise(found))
    assert all(values[int(start_s)] >= 0.5 for start_s, _ in found)


@pytest.fixture(scope="module")
def spoken() -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Six seconds with two stretches of speech, and when these begin and end."""
    wave_T = np.random.default_rng(0).normal(0, 1e-3, 6 * VOICE_RATE_HZ).astype(np.float32)
    stretches_s = []
    for start_s, words in ((1.0, ["seven", "eleven"]), (4.0, ["nine", "zero"])):
        said_T = 0.3 * np.concatenate(say_words(words, Voice("en-us", "m3", 160, 50)))
        start = round(start_s * VOICE_RATE_HZ)
        wave_T[start : start + len(said_T)] += said_T
        stretches_s.append((start_s, start_s + len(said_T) / VOICE_RATE_HZ))
    return wave_T, stretches_s


@pytest.mark.parametrize("start_s", [0.0, 2.5])
def test_voice_spans_are_where_the_recording_has_speech(
    spoken: tuple[np.ndarray, list[tuple[float, float]]], start_s: float
) -> None:
    wave_T, stretches_s = spoken
    pcm = to_pcm16(wave_T)
    spans = voice_spans(pcm, VOICE_RATE_HZ, start_s, threshold=0.5, max_gap_s=0.3, min_s=0.25)
    found_s = [(one["start_s"] - start_s, one["end_s"] - start_s) for one in spans]
    assert np.allclose(found_s, stretches_s, atol=0.15)
    assert voice_spans(pcm, VOICE_RATE_HZ, start_s, threshold=0.5, max_gap_s=0.3, min_s=0.25) == spans


def test_voice_spans_of_a_long_recording_are_heard_in_blocks(
    spoken: tuple[np.ndarray, list[tuple[float, float]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pcm = to_pcm16(np.tile(spoken[0], 3))
    at_once = voice_spans(pcm, VOICE_RATE_HZ, 0.0, threshold=0.5, max_gap_s=0.3, min_s=0.25)
    monkeypatch.setattr(voice, "_BLOCK_S", 8)
    in_blocks = voice_spans(pcm, VOICE_RATE_HZ, 0.0, threshold=0.5, max_gap_s=0.3, min_s=0.25)
    assert len(at_once) == 6
    times_s = [[(one["start_s"], one["end_s"]) for one in spans] for spans in (at_once, in_blocks)]
    assert np.allclose(*times_s, atol=0.1)


def test_voice_spans_of_silence_are_none() -> None:
    assert voice_spans(bytes(2 * RATE_HZ), RATE_HZ, 0.0, threshold=0.5, max_gap_s=0.3, min_s=0.25) == []
