"""A transcript as a bad speech recogniser would write it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.synthesis.script import DIGIT_WORDS, Interval

# What each wrong word can have been. Every one fits several digits, so that a wrong word narrows the digit down
# without giving it away.
MISHEARD: dict[str, tuple[int, ...]] = {
    "zoo": (0, 2),
    "zoom": (0, 2),
    "hero": (0, 3),
    "row": (0, 4),
    "floor": (0, 4),
    "fun": (1, 5),
    "oven": (1, 7),
    "wait": (1, 8),
    "none": (1, 9),
    "wine": (1, 9),
    "true": (2, 3),
    "through": (2, 3),
    "suit": (2, 6),
    "aid": (2, 8),
    "free": (3, 4),
    "even": (3, 7),
    "eat": (3, 8),
    "fire": (4, 5),
    "fix": (5, 6),
    "fight": (5, 8),
    "fine": (5, 9),
    "vine": (5, 9),
    "sets": (6, 7),
    "sense": (6, 7),
    "sender": (6, 7),
    "eggs": (6, 8),
    "night": (8, 9),
}
FILLERS = ("um", "uh", "er", "well", "like", "okay")

_JITTER_S = 0.04


@dataclass(frozen=True)
class Recogniser:
    """How often a digit's word is heard wrong, is lost, or comes with fillers around it."""

    misheard: float
    missing: float
    filler: float

    def hear(self, digit: int, rng: np.random.Generator) -> str:
        """What is written for a spoken digit; never empty."""
        fate, surround = rng.random(2)
        before, after = rng.choice(FILLERS, size=2).tolist()
        if fate < self.missing:
            return str(before)
        word = DIGIT_WORDS[digit]
        if fate < self.missing + (1 - self.missing) * self.misheard:
            word = str(rng.choice([wrong for wrong, digits in MISHEARD.items() if digit in digits]))
        return f"{before} {word} {after}" if surround < self.filler else word

    def transcribe(
        self, digits: Sequence[int], intervals: Sequence[Interval], length_s: float, rng: np.random.Generator
    ) -> str:
        """An SRT transcript with one cue a digit, a little early or late, but within the recording."""
        cues = []
        for number, (digit, interval) in enumerate(zip(digits, intervals, strict=True), start=1):
            early_s, late_s = rng.uniform(-_JITTER_S, _JITTER_S, size=2)
            start = srt_time(max(0.0, interval.start_s + early_s))
            end = srt_time(min(length_s, interval.end_s + late_s))
            cues.append(f"{number}\n{start} --> {end}\n{self.hear(digit, rng)}\n")
        return "\n".join(cues)


def srt_time(time_s: float) -> str:
    """A time as SRT writes it: hours, minutes, seconds and milliseconds."""
    minutes, ms = divmod(round(time_s * 1000), 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{ms // 1000:02d},{ms % 1000:03d}"
