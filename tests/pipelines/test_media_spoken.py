"""Groups of words, and where to cut between them."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipelines.media.spans import Span, span
from pipelines.media.spoken import WordGaps, quietest, word_spans

RATE_HZ = 1000
times = st.lists(st.tuples(st.integers(0, 90), st.integers(0, 15)), max_size=12)


def said(*words: tuple[float, float, str]) -> list[Span]:
    return [span(start_s, end_s, text=text) for start_s, end_s, text in words]


def groups(words: list[Span], *, max_gap_s: float = 0.5, sentences: bool = False) -> list[tuple[float, float, str]]:
    spans = word_spans(words, max_gap_s=max_gap_s, sentences=sentences)
    return [(one["start_s"], one["end_s"], one["text"]) for one in spans]


def test_words_belong_together_until_a_long_pause() -> None:
    words = said((0.0, 0.4, "so"), (0.9, 1.2, "it"), (1.701, 2.0, "is"))
    assert groups(words) == [(0.0, 1.2, "so it"), (1.701, 2.0, "is")]
    assert groups(words, max_gap_s=9) == [(0.0, 2.0, "so it is")]
    assert groups([]) == []


def test_words_that_overlap_last_until_the_last_of_them_ends() -> None:
    assert groups(said((0.0, 3.0, "long"), (0.5, 1.0, "in"), (3.2, 3.5, "on"))) == [(0.0, 3.5, "long in on")]


def test_sentences_end_a_group_where_they_are_asked_for() -> None:
    words = said((0.0, 0.4, "Is"), (0.4, 0.8, "it?”"), (0.8, 1.0, "Dr"), (1.0, 1.2, "No."))
    assert groups(words) == [(0.0, 1.2, "Is it?” Dr No.")]
    assert groups(words, sentences=True) == [(0.0, 0.8, "Is it?”"), (0.8, 1.2, "Dr No.")]


@given(times, st.integers(0, 20), st.booleans())
def test_groups_hold_every_word_once_and_begin_in_order(
    starts: list[tuple[int, int]], gap: int, sentences: bool
) -> None:
    words = said(*((start / 10, (start + length) / 10, f"w{start}.") for start, length in sorted(starts)))
    found = groups(words, max_gap_s=gap / 10, sentences=sentences)
    assert " ".join(text for *_, text in found).split() == [word["text"] for word in words]
    assert [start for start, *_ in found] == sorted(start for start, *_ in found)
    if not sentences:
        assert all(after[0] - before[1] > gap / 10 for before, after in pairwise(found))


def test_widest_gap_is_the_longest_pause_within_the_leeway() -> None:
    words = said((0.0, 1.0, "a"), (1.2, 2.0, "b"), (2.5, 3.0, "c"))
    assert WordGaps(words).widest(0.5, 2.9, 1.0) == 2.25
    assert WordGaps(words).widest(0.5, 2.1, 1.0) == 1.1
    assert WordGaps(words).widest(0.1, 0.9, 0.5) is None
    assert WordGaps(words).widest(2.6, 9.0, 5.0) == 6.0


def test_widest_gap_of_equal_ones_is_the_nearest_and_may_have_no_length() -> None:
    words = said((0.0, 1.0, "a"), (1.0, 2.0, "b"), (2.0, 3.0, "c"))
    assert WordGaps(words).widest(0.5, 2.5, 1.6) == 2.0
    assert WordGaps(words).widest(0.5, 2.5, 1.4) == 1.0


@given(times, st.integers(0, 50), st.integers(0, 50))
def test_widest_gap_lies_within_the_leeway_and_cuts_no_word(starts: list[tuple[int, int]], low: int, room: int) -> None:
    words = said(*((start / 10, (start + length) / 10, "w") for start, length in sorted(starts)))
    found = WordGaps(words).widest(low / 10, (low + room) / 10, low / 10)
    if found is None:
        assert words
        return
    assert low / 10 <= found <= (low + room) / 10
    assert not any(word["start_s"] < found < word["end_s"] for word in words)


def test_quietest_is_the_middle_of_the_stretch_of_least_energy() -> None:
    wave_T = np.full(4 * RATE_HZ, 8000, "<i2")
    wave_T[1500:1560] = 0
    pcm = wave_T.tobytes()
    assert quietest(pcm, RATE_HZ, 0.0, low_s=1.0, high_s=3.0, ideal_s=2.0) == 1.55
    assert quietest(pcm, RATE_HZ, 0.0, low_s=1.0, high_s=3.0, ideal_s=1.0) == 1.51
    assert quietest(pcm, RATE_HZ, 10.0, low_s=11.0, high_s=13.0, ideal_s=12.0) == 11.55
    assert quietest(pcm, RATE_HZ, 0.0, low_s=2.0, high_s=2.01, ideal_s=2.0) is None
    assert quietest(pcm, RATE_HZ, 0.0, low_s=5.0, high_s=6.0, ideal_s=5.5) is None
    assert quietest(pcm, RATE_HZ, 0.0, low_s=-3.0, high_s=-1.0, ideal_s=-2.0) is None
