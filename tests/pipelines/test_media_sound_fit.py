import numpy as np
import pytest

from features.reasons import Reason
from pipelines.media.sound_fit import correlate, fit_to_sound, level_db
from pipelines.media.spans import Notice, Span, span

RATE_HZ = 1000


def spoken(seed: int, length_s: float = 120.0) -> list[Span]:
    """Cues with pauses, as people talk."""
    rng = np.random.default_rng(seed)
    cues, at_s = [], 1.0
    while at_s < length_s - 5:
        cue_s = rng.uniform(1, 4)
        cues.append(span(at_s, at_s + cue_s, text="x"))
        at_s += cue_s + rng.uniform(0.5, 2)
    return cues


def voice(cues: list[Span], length_s: float = 120.0) -> bytes:
    """Noise that is loud where cues are on."""
    rng = np.random.default_rng(0)
    wave_T = rng.normal(0, 30, int(length_s * RATE_HZ))
    for cue in cues:
        first, last = (round(cue[name] * RATE_HZ) for name in ("start_s", "end_s"))
        wave_T[first:last] *= 50
    return wave_T.astype("<i2").tobytes()


def moved(cues: list[Span], shift_s: float) -> list[Span]:
    return [{**cue, "start_s": cue["start_s"] + shift_s, "end_s": cue["end_s"] + shift_s} for cue in cues]


def fit(cues: list[Span], audio: bytes, start_s: float = 0.0) -> list[Notice]:
    return fit_to_sound("cues", cues, audio, RATE_HZ, start_s)


def test_fit_to_sound_says_nothing_of_cues_where_it_sounds() -> None:
    for seed in range(5):
        assert fit(spoken(seed), voice(spoken(seed))) == []
        assert fit(moved(spoken(seed), -0.5), voice(spoken(seed))) == []  # subtitles come early


@pytest.mark.parametrize("shift_s", [-20.0, -2.5, 3.0, 29.0])
def test_fit_to_sound_names_the_shift_that_would_fit(shift_s: float) -> None:
    cues = spoken(1)
    (notice,) = fit(moved(cues, -shift_s), voice(cues))
    assert (notice.reason, notice.dropped) == (Reason.SHIFTED, "nothing")
    assert f"best {shift_s:+.1f} s from where they are" in notice.text


def test_fit_to_sound_knows_when_the_audio_begins() -> None:
    cues = spoken(2)
    assert fit(moved(cues, 10.0), voice(cues), start_s=10.0) == []


def test_fit_to_sound_says_when_cues_are_of_another_recording() -> None:
    audio = voice(spoken(0, 300.0), 300.0)
    found = [notice for seed in range(1, 16) for notice in fit(spoken(seed, 300.0), audio)]
    assert {notice.reason for notice in found} == {Reason.OTHER_RECORDING}  # no shift fits
    assert len(found) >= 10
    assert "come and go without regard to what sounds (correlation" in found[0].text
    assert fit(spoken(1)[:19], audio) == []  # too few
    endless = [span(start_s, start_s + 3.9, text="x") for start_s in range(0, 300, 4)]
    assert fit(endless, audio) == []


def test_fit_to_sound_is_silent_where_it_cannot_be_sure() -> None:
    cues = spoken(1)
    hiss = np.random.default_rng(0).normal(0, 1000, 120 * RATE_HZ).astype("<i2").tobytes()
    assert fit(moved(cues, 5), hiss) == []
    assert fit(moved(cues, 5), bytes(2 * 120 * RATE_HZ)) == []
    assert fit(moved(cues, 5), voice(cues, 59.0)) == []
    assert fit(moved(cues[::5], 1.2), voice(cues[::5])) == []  # too few


def test_fit_to_sound_says_when_cues_are_on_for_hardly_anything_that_sounds() -> None:
    cues = spoken(3)
    (notice,) = fit(cues[:1], voice(cues))
    assert (notice.reason, notice.dropped) == (Reason.OTHER_RECORDING, "nothing")
    assert "its 1 cues are on for" in notice.text


def test_level_db_is_of_full_scale() -> None:
    full = np.full(RATE_HZ, -32768, "<i2").tobytes()
    assert level_db(full + full[:50], RATE_HZ) == pytest.approx(np.zeros(10))
    assert level_db(bytes(400), RATE_HZ) == pytest.approx([-90.3, -90.3], abs=0.01)


def test_correlate_is_one_where_the_level_follows_the_cues() -> None:
    rng = np.random.default_rng(0)
    on_T = (rng.random(1200) < 0.5).astype(float)
    on_T[:300] = on_T[-300:] = on_T[0]  # nothing is moved out
    correlation_S = correlate(np.roll(20 * on_T - 60, 70), on_T)
    assert len(correlation_S) == 601
    assert int(np.argmax(correlation_S)) == 370
    assert correlation_S[370] == pytest.approx(1, abs=0.02)
    assert np.abs(correlation_S).max() <= 1 + 1e-9
