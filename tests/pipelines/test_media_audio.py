import hashlib
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from media_files import tone

from features.reasons import MediaError, Reason
from pipelines.media.audio import (
    PEAK_LIMIT_DBFS,
    check_not_silent,
    from_pcm16,
    is_silent,
    measure_lufs,
    normalise_loudness,
    peak_dbfs,
    slice_pcm16,
    to_pcm16,
)


@pytest.mark.parametrize("rate_hz", [16_000, 48_000])
@pytest.mark.parametrize("duration_s", [0.1, 3.0])
def test_measure_lufs_knows_the_reference_tone(rate_hz: int, duration_s: float) -> None:
    # BS.1770: a full-scale sine of 997 Hz in one channel has -3.01 LUFS.
    assert measure_lufs(tone(duration_s, rate_hz, peak=1.0), rate_hz) == pytest.approx(-3.01, abs=0.2)
    assert measure_lufs(tone(duration_s, rate_hz, peak=0.1), rate_hz) == pytest.approx(-23.01, abs=0.2)


def test_normalise_loudness_reaches_the_target() -> None:
    for peak in (0.01, 0.9):
        levelled_T = normalise_loudness(tone(2.0, 16_000, peak=peak), 16_000, target_lufs=-23)
        assert levelled_T.dtype == np.float32
        assert measure_lufs(levelled_T, 16_000) == pytest.approx(-23, abs=0.05)


def test_normalise_loudness_leaves_headroom() -> None:
    wave_T = tone(2.0, 16_000, peak=0.01)
    wave_T[1000] = 0.5
    assert peak_dbfs(normalise_loudness(wave_T, 16_000, target_lufs=-10)) == pytest.approx(PEAK_LIMIT_DBFS, abs=1e-3)


def test_normalise_loudness_keeps_what_has_none() -> None:
    for wave_T in (np.zeros(8000, np.float32), np.zeros(0, np.float32), tone(1.0, 16_000, peak=1e-5)):
        assert np.array_equal(normalise_loudness(wave_T, 16_000, target_lufs=-23), wave_T)


def test_check_not_silent_names_the_peak() -> None:
    check_not_silent(tone(0.1, 8000, peak=0.01), -60)
    assert is_silent(np.zeros(0, np.float32), -60)
    with pytest.raises(MediaError, match=r"-80\.0 dBFS; below -60 dBFS") as caught:
        check_not_silent(np.full(100, 1e-4, np.float32), -60)
    assert caught.value.reason == Reason.SILENT
    with pytest.raises(MediaError, match="-inf"):
        check_not_silent(np.zeros(100, np.float32), -60)


def test_to_pcm16_keeps_its_bytes() -> None:
    # The bytes of stored features come from these: a change here changes every audio feature.
    pcm = to_pcm16(np.linspace(-1.5, 1.5, 1001, dtype=np.float32))
    assert hashlib.sha256(pcm).hexdigest()[:16] == "67d613996c4cef41"


@given(st.lists(st.integers(-32768, 32767)))
def test_from_pcm16_is_undone_by_to_pcm16(values: list[int]) -> None:
    pcm = np.array(values, "<i2").tobytes()
    assert to_pcm16(from_pcm16(pcm)) == pcm


@given(
    st.integers(0, 300),
    st.floats(-2, 2),
    st.sampled_from([100, 16_000, 44_100]),
    st.lists(st.floats(-3, 6), min_size=1, max_size=5),
)
def test_slice_pcm16_of_adjacent_stretches_gives_the_whole(
    num_samples: int, begin_s: float, rate_hz: int, cuts_s: list[float]
) -> None:
    pcm = np.arange(num_samples, dtype="<i2").tobytes()
    bounds_s = [-10.0, *sorted(cuts_s), 20.0]
    pieces = [slice_pcm16(pcm, rate_hz, begin_s, start_s, end_s) for start_s, end_s in pairwise(bounds_s)]
    assert b"".join(piece or b"" for piece in pieces) == pcm


def test_slice_pcm16_rounds_to_the_nearest_sample() -> None:
    pcm = np.arange(100, dtype="<i2").tobytes()
    piece = slice_pcm16(pcm, 100, 0.5, 0.7449, 0.7951)
    assert piece is not None
    assert np.frombuffer(piece, "<i2").tolist() == [24, 25, 26, 27, 28, 29]


@pytest.mark.parametrize(("start_s", "end_s"), [(-1, 0.4), (1.6, 2), (0.7, 0.7), (0.9, 0.8), (0.701, 0.702)])
def test_slice_pcm16_has_nothing_where_nothing_is(start_s: float, end_s: float) -> None:
    assert slice_pcm16(bytes(200), 100, 0.5, start_s, end_s) is None


def test_peak_dbfs_counts_from_full_scale() -> None:
    assert peak_dbfs(np.array([0.5, -1.0], np.float32)) == 0
    assert peak_dbfs(np.zeros(3, np.float32)) == -math.inf
