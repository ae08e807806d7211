import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.intervals import Intervals


def test_ragged_keeps_each_sample_apart():
    intervals = Intervals.ragged([[[0, 1], [1, 2]], np.empty((0, 2)), [[5, 6]]])
    assert intervals.offsets.tolist() == [0, 2, 2, 3]
    assert intervals[1:3].times.tolist() == [[5, 6]]
    assert (len(intervals), intervals.lengths.tolist(), intervals.samples.tolist()) == (3, [2, 0, 1], [0, 0, 2])
    joined = Intervals.joined([intervals[:1], intervals[1:]])
    assert np.array_equal(joined.times, intervals.times)
    assert np.array_equal(joined.offsets, intervals.offsets)


def test_no_samples_at_all():
    for none in (Intervals.ragged([]), Intervals.joined([]), Intervals.windows(np.empty(0), 5.0)):
        assert (len(none), none.times.shape) == (0, (0, 2))


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([[], [[0, 1], [2, 1.5]]], r"interval 1 of sample 1 goes from 2.0 s to 1.5 s; it must be finite and not end"),
        ([[[0, np.inf]]], r"interval 0 of sample 0 goes from 0.0 s to inf s"),
    ],
)
def test_intervals_that_cannot_be_are_named(times, message):
    with pytest.raises(ValueError, match=message):
        Intervals.ragged(times)


def test_offsets_must_be_those_of_the_intervals():
    with pytest.raises(ValueError, match="1 starts and 1 ends, but offsets to 2"):
        Intervals(np.zeros(1), np.ones(1), np.array([0, 2]))
    with pytest.raises(ValueError, match="begin with 0 and never fall"):
        Intervals(np.zeros(1), np.ones(1), np.array([0, 2, 1]))


def test_from_arrow_reads_structs_and_pairs():
    words = [[{"start_s": 0.0, "end_s": 0.5, "text": "so"}], None, [{"start_s": 1.0, "end_s": None, "text": "it"}]]
    kind = pa.list_(pa.struct([("start_s", pa.float64()), ("end_s", pa.float64()), ("text", pa.string())]))
    intervals = Intervals.from_arrow(pa.array(words, kind))
    assert np.array_equal(intervals.times, [[0, 0.5], [1, np.nan]], equal_nan=True)
    assert intervals.offsets.tolist() == [0, 1, 1, 2]
    pairs = pa.array([[[0, 1]], [[2, 3], [3, 4]]], pa.list_(pa.list_(pa.float32(), 2)))
    assert Intervals.from_arrow(pairs.slice(1)).times.tolist() == [[2, 3], [3, 4]]
    with pytest.raises(ValueError, match=r"intervals are list<item: double>; give lists of structs"):
        Intervals.from_arrow(pa.array([[0.0, 1.0]]))


def test_windows_end_with_the_sample():
    windows = Intervals.windows(np.array([0.5, np.nan, 0.4, 0.0]), 5.0)
    assert windows.offsets.tolist() == [0, 3, 3, 5, 5]
    assert windows.times.tolist() == [[0, 0.2], [0.2, 0.4], [0.4, 0.5], [0, 0.2], [0.2, 0.4]]
    for rate_hz in (0, -1, np.inf, np.nan):
        with pytest.raises(ValueError, match="it must be above 0"):
            Intervals.windows(np.ones(1), rate_hz)


@given(duration_s=st.floats(0.001, 1e4), rate_hz=st.floats(0.01, 200))
def test_windows_cover_a_sample_once_without_slivers(duration_s, rate_hz):
    times = Intervals.windows(np.array([duration_s]), rate_hz).times
    if duration_s * rate_hz > 1e-6:
        assert (times[0, 0], times[-1, 1]) == (0, duration_s)
    assert np.array_equal(times[1:, 0], times[:-1, 1])
    assert (np.diff(times) > 0.9e-6 / rate_hz).all()
