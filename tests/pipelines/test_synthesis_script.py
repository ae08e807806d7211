from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipelines.synthesis.script import choose_digits, recording_length_s, time_digits

LABELS = [digit for digit in range(10) for _ in range(7)]


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 9))
def test_choose_digits_keeps_recordings_when_more_follow(recordings: int, more: int, seed: int) -> None:
    few = list(choose_digits(LABELS, recordings=recordings, segments=4, seed=seed))
    many = list(choose_digits(LABELS, recordings=recordings + more, segments=4, seed=seed))
    assert many[:recordings] == few


def test_choose_digits_picks_pictures_of_their_digit() -> None:
    for shown in choose_digits(LABELS, recordings=20, segments=10, seed=3):
        assert [LABELS[each.picture] for each in shown] == [each.digit for each in shown]


def test_choose_digits_repeats_no_picture_before_its_pile_is_through() -> None:
    labels = [digit for digit in range(10) for _ in range(40)]
    pictures = [each.picture for shown in choose_digits(labels, recordings=20, segments=10, seed=1) for each in shown]
    assert len(set(pictures)) == len(pictures)


def test_choose_digits_deals_a_small_pile_again() -> None:
    (shown,) = choose_digits(list(range(10)), recordings=1, segments=50, seed=0)
    assert all(each.picture == each.digit for each in shown)


@given(st.lists(st.floats(0.05, 2.0), min_size=1, max_size=12), st.integers(0, 2**32))
def test_time_digits_gives_each_voice_room_and_leaves_gaps(lengths_s: list[float], seed: int) -> None:
    intervals = time_digits(lengths_s, np.random.default_rng(seed))
    assert intervals[0].start_s > 0
    assert recording_length_s(intervals) > intervals[-1].end_s
    for interval, length_s in zip(intervals, lengths_s, strict=True):
        assert interval.start_s < interval.voice_s
        assert interval.voice_s + length_s < interval.end_s
    for earlier, later in pairwise(intervals):
        assert later.start_s - earlier.end_s > 0.09
