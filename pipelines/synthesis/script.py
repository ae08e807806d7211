"""Which digits a generated recording shows, in whose handwriting, and when."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from features.rev import seed_of

DIGIT_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

_SHOWN_S = (1.0, 1.4)
_GAP_S = (0.1, 0.25)  # longer than twice the recogniser's jitter, so that cues never overlap
_VOICE_DELAY_S = (0.05, 0.25)
_VOICE_MARGIN_S = 0.05  # the voice ends at least this long before the digit goes


@dataclass(frozen=True)
class Shown:
    """A digit to show: its value and the index of its picture in the handwriting data set."""

    digit: int
    picture: int


@dataclass(frozen=True)
class Interval:
    """When a digit is on screen and when the voice begins to say it, in seconds and whole milliseconds."""

    start_s: float
    end_s: float
    voice_s: float


def choose_digits(labels: Sequence[int], *, recordings: int, segments: int, seed: int) -> Iterator[tuple[Shown, ...]]:
    """The digits of each recording in turn; recording n is the same however many follow it.

    labels: the class of each picture of the data set. Each class deals its pictures from a shuffled pile, so none
    comes twice before the pile is through: no handwriting is in two recordings of a usual demo.
    """
    piles = [
        np.random.default_rng(seed_of(seed, "handwriting", str(digit))).permutation(
            np.flatnonzero(np.equal(labels, digit))
        )
        for digit in range(10)
    ]
    num_dealt = [0] * 10
    for number in range(recordings):
        rng = np.random.default_rng(seed_of(seed, "digits", str(number)))
        shown = []
        for digit in rng.integers(10, size=segments).tolist():
            pile = piles[digit]
            shown.append(Shown(digit, int(pile[num_dealt[digit] % len(pile)])))
            num_dealt[digit] += 1
        yield tuple(shown)


def time_digits(voice_lengths_s: Sequence[float], rng: np.random.Generator) -> list[Interval]:
    """An interval for each spoken digit, long enough for its voice, with gaps around all of them."""
    intervals = []
    now_s = rng.uniform(*_GAP_S)
    for voice_length_s in voice_lengths_s:
        delay_s = rng.uniform(*_VOICE_DELAY_S)
        shown_s = max(rng.uniform(*_SHOWN_S), delay_s + voice_length_s + _VOICE_MARGIN_S)
        intervals.append(Interval(round(now_s, 3), round(now_s + shown_s, 3), round(now_s + delay_s, 3)))
        now_s += shown_s + rng.uniform(*_GAP_S)
    return intervals


def recording_length_s(intervals: Sequence[Interval]) -> float:
    """Length of the recording: the last digit and a gap after it."""
    return intervals[-1].end_s + _GAP_S[0]
