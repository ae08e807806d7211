import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.media.transcripts.parse import parse_transcript
from pipelines.synthesis.recogniser import FILLERS, MISHEARD, Recogniser, srt_time
from pipelines.synthesis.script import DIGIT_WORDS, recording_length_s, time_digits

DIGITS = range(10)


@pytest.mark.parametrize("digit", DIGITS)
def test_misheard_words_leave_each_digit_in_doubt(digit: int) -> None:
    words = [word for word, digits in MISHEARD.items() if digit in digits]
    assert len({other for word in words for other in MISHEARD[word]} - {digit}) >= 2


def test_misheard_words_are_neither_digits_nor_fillers_and_never_certain() -> None:
    assert not set(MISHEARD) & {*DIGIT_WORDS, *FILLERS}
    assert all(len(set(digits)) > 1 for digits in MISHEARD.values())


@pytest.mark.parametrize("digit", DIGITS)
def test_recogniser_without_faults_writes_the_word(digit: int) -> None:
    assert Recogniser(misheard=0, missing=0, filler=0).hear(digit, np.random.default_rng(0)) == DIGIT_WORDS[digit]


@pytest.mark.parametrize("digit", DIGITS)
def test_recogniser_that_always_mishears_writes_a_similar_word(digit: int) -> None:
    rng = np.random.default_rng(digit)
    recogniser = Recogniser(misheard=1, missing=0, filler=0)
    assert all(digit in MISHEARD[recogniser.hear(digit, rng)] for _ in range(20))


def test_recogniser_that_misses_all_writes_one_filler() -> None:
    rng = np.random.default_rng(0)
    assert all(Recogniser(misheard=1, missing=1, filler=1).hear(3, rng) in FILLERS for _ in range(20))


def test_recogniser_surrounds_the_word_with_fillers() -> None:
    before, word, after = Recogniser(misheard=0, missing=0, filler=1).hear(3, np.random.default_rng(0)).split()
    assert (word, {before, after} <= set(FILLERS)) == ("three", True)


def test_recogniser_faults_come_as_often_as_stated() -> None:
    rng = np.random.default_rng(0)
    recogniser = Recogniser(misheard=0.5, missing=0.2, filler=0)
    heard = [recogniser.hear(7, rng) for _ in range(2000)]
    missing = sum(text in FILLERS for text in heard) / len(heard)
    misheard = sum(text in MISHEARD for text in heard) / len(heard)
    assert missing == pytest.approx(0.2, abs=0.03)
    assert misheard == pytest.approx(0.8 * 0.5, abs=0.03)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12), st.integers(0, 2**32))
def test_transcribe_writes_cues_near_their_digits(digits: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    intervals = time_digits([0.4] * len(digits), rng)
    length_s = recording_length_s(intervals)
    srt = Recogniser(misheard=0, missing=0, filler=0).transcribe(digits, intervals, length_s, rng)
    cues = parse_transcript(srt.encode(), ".srt").cues
    assert [cue["text"] for cue in cues] == [DIGIT_WORDS[digit] for digit in digits]
    end_s = 0.0
    for cue, interval in zip(cues, intervals, strict=True):
        assert cue["start_s"] == pytest.approx(interval.start_s, abs=0.041)
        assert cue["end_s"] == pytest.approx(interval.end_s, abs=0.041)
        assert end_s <= cue["start_s"] < cue["end_s"] <= round(length_s, 3)
        end_s = cue["end_s"]


@pytest.mark.parametrize(
    ("time_s", "text"),
    [(0.0, "00:00:00,000"), (59.9996, "00:01:00,000"), (3725.25, "01:02:05,250"), (360000.0, "100:00:00,000")],
)
def test_srt_time_carries_over(time_s: float, text: str) -> None:
    assert srt_time(time_s) == text
