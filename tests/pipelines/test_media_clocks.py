"""Offset and drift of a separate recorder."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from two_recorders import RATE_HZ, make_event, with_noise

from pipelines.media.clocks import ClockRelation, relate_clocks


def relate(reference_T: np.ndarray, other_T: np.ndarray, **changed: Any) -> ClockRelation:
    return relate_clocks(reference_T, other_T, RATE_HZ, **{"max_offset_s": 60.0, "max_drift_ppm": 220.0, **changed})


def error_s(found: ClockRelation, at_s: float, *, offset_s: float, drift_ppm: float = 0.0) -> float:
    """How far off the relation is at a time of the other recording."""
    return abs(found.offset_s - offset_s + at_s * ((found.drift_ppm or 0.0) - drift_ppm) * 1e-6)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**20), offset_s=st.floats(-20, 20), drift_ppm=st.floats(-200, 200), noise=st.booleans())
def test_relate_clocks_finds_offset_and_drift_in_noise(
    seed: int, offset_s: float, drift_ppm: float, noise: bool
) -> None:
    event = make_event(85.0, seed, first_s=-21.0)
    reference_T, other_T = event.record(40.0), event.record(40.0, offset_s=offset_s, drift_ppm=drift_ppm)
    if noise:
        reference_T, other_T = with_noise(reference_T, seed), with_noise(other_T, seed + 1)
    found = relate(reference_T, other_T)
    overlap = max(0.0, -offset_s), min(40.0, 40.0 - offset_s)
    assert max(error_s(found, at_s, offset_s=offset_s, drift_ppm=drift_ppm) for at_s in overlap) < 0.001
    assert found.confidence > 0.4
    assert found.drift_ppm == pytest.approx(drift_ppm, abs=max(1.0, 5 * found.drift_error_ppm))
    assert found.overlap_s == pytest.approx(overlap[1] - overlap[0], abs=0.02)


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**20), offset_s=st.floats(-10, 10), drift_ppm=st.floats(-200, 200))
def test_relate_clocks_inverts_where_the_roles_are_swapped(seed: int, offset_s: float, drift_ppm: float) -> None:
    event = make_event(55.0, seed, first_s=-11.0)
    waves = event.record(30.0), event.record(30.0, offset_s=offset_s, drift_ppm=drift_ppm)
    there, back = relate(*waves), relate(*waves[::-1])
    assert there.drift_ppm is not None
    assert back.drift_ppm is not None
    factor = (1 + there.drift_ppm * 1e-6) * (1 + back.drift_ppm * 1e-6)
    assert factor == pytest.approx(1, abs=2e-6)
    assert there.offset_s + back.offset_s * (1 + there.drift_ppm * 1e-6) == pytest.approx(0, abs=1e-4)


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**20), gain=st.floats(0.001, 1000), sign=st.sampled_from([-1, 1]), cut_s=st.floats(0, 3))
def test_relate_clocks_does_not_mind_gain_polarity_and_a_common_shift(
    seed: int, gain: float, sign: int, cut_s: float
) -> None:
    event = make_event(30.0, seed)
    reference_T, other_T = event.record(20.0), event.record(20.0, offset_s=5.0, drift_ppm=50.0)
    plain = relate(reference_T, other_T)
    loud = relate(reference_T, other_T * np.float32(sign * gain))
    assert error_s(loud, 10.0, offset_s=plain.offset_s, drift_ppm=plain.drift_ppm or 0.0) < 1e-4
    cut = round(cut_s * RATE_HZ)
    assert error_s(relate(reference_T[cut:], other_T[cut:]), 8.0, offset_s=5.0, drift_ppm=50.0) < 2e-3


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**20), duration_s=st.floats(10, 40))
def test_relate_clocks_has_no_confidence_in_recordings_of_different_events(seed: int, duration_s: float) -> None:
    first, second = make_event(duration_s, seed), make_event(duration_s, seed + 1)
    assert relate(first.record(duration_s), second.record(duration_s)).confidence < 0.2


def test_relate_clocks_finds_a_short_recording_in_a_long_one() -> None:
    event = make_event(100.0, 3)
    found = relate(event.record(100.0), with_noise(event.record(12.0, offset_s=47.25), 4, snr_db=3))
    assert error_s(found, 6.0, offset_s=47.25) < 0.001
    assert found.confidence > 0.4


def test_relate_clocks_does_not_fit_a_drift_to_some_seconds() -> None:
    event = make_event(6.0, 5)
    found = relate(with_noise(event.record(5.0), 6), with_noise(event.record(4.0, offset_s=0.5, drift_ppm=100.0), 7))
    assert found.drift_ppm is None
    assert found.drift_error_ppm > 5
    assert error_s(found, 2.0, offset_s=0.5, drift_ppm=100.0) < 0.001
    assert found.confidence > 0.3


def test_relate_clocks_survives_a_long_silence_and_says_where_nothing_confirms_it() -> None:
    event = make_event(60.0, 8)
    other_T = event.record(60.0, offset_s=0.25)
    other_T[20 * RATE_HZ : 40 * RATE_HZ] = 1e-3 * np.random.default_rng(9).standard_normal(20 * RATE_HZ)
    found = relate(event.record(60.0), other_T)
    assert error_s(found, 30.0, offset_s=0.25) < 0.001
    assert found.unconfirmed_s == pytest.approx((20.0, 40.0), abs=2.0)


def test_relate_clocks_has_no_confidence_where_a_loop_leaves_a_choice() -> None:
    loop_T = make_event(4.0, 10).record(4.0)
    music_T = np.tile(loop_T, 10)
    assert relate(music_T, music_T[3 * RATE_HZ : 25 * RATE_HZ]).confidence < 0.1


@pytest.mark.parametrize("num_samples", [0, 1, 300, 2000])
def test_relate_clocks_of_next_to_nothing_is_no_relation(num_samples: int) -> None:
    found = relate(make_event(10.0, 11).record(10.0), np.ones(num_samples, np.float32))
    assert (found.confidence, found.drift_ppm, found.overlap_s) == (0.0, None, 0.0)
    assert math.isinf(found.drift_error_ppm)


def test_relate_clocks_of_silence_is_no_relation() -> None:
    found = relate(make_event(10.0, 12).record(10.0), np.zeros(5 * RATE_HZ, np.float32))
    assert found.confidence == 0.0


def test_relate_clocks_finds_nothing_beyond_the_largest_offset() -> None:
    event = make_event(40.0, 13)
    waves = event.record(40.0), event.record(20.0, offset_s=12.0)
    assert relate(*waves, max_offset_s=10.0).confidence < 0.2
    assert relate(*waves, max_offset_s=13.0).confidence > 0.4
