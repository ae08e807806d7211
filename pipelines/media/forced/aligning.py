"""Words with times from a transcript without: what an aligner gives, and whether to believe it."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from features.reasons import MediaError, Reason

_NOT_SPOKEN = re.compile(r"\[[^\]]*\]|[♪♫]")  # [music] and the like describe what is heard

_NEIGHBOURS = 2
CURLED_APOSTROPHE = "\N{RIGHT SINGLE QUOTATION MARK}"


@dataclass(frozen=True)
class Place:
    """Where a word is, in seconds from the start of the wave, and how well the sound fits it, from 0 to 1."""

    start_s: float
    end_s: float
    confidence: float


@dataclass(frozen=True)
class TimedWord:
    """A word as it is written, where it is said, and how well the sound fits it, from 0 to 1."""

    text: str
    start_s: float
    end_s: float
    confidence: float


@dataclass(frozen=True)
class Aligned:
    """The words that have times, in the text's order, and the confidence of them all.

    unsayable: words that the aligner cannot say; doubtful: those that the sound about them does not bear out.
    """

    words: list[TimedWord]
    unsayable: list[str]
    doubtful: list[str]
    confidence: float


class Aligner(Protocol):
    """Finds words in a wave."""

    def __call__(self, wave_T: np.ndarray, rate_hz: int, words: Sequence[str]) -> list[Place | None]:
        """A place for each of the words, in order and without overlap; None for one that it cannot say.

        wave_T: float32 [sample], mono, full scale is 1. Raises MediaError NOT_ALIGNED where no way leads through the
        words in the time that there is.
        """


def split_words(text: str) -> list[str]:
    """The words of a text as they are written, without white space, what stands in square brackets, and tokens that
    have neither a letter nor a digit."""
    tokens = _NOT_SPOKEN.sub(" ", text).split()
    return [token for token in tokens if any(char.isalnum() for char in token)]


def align_words(
    wave_T: np.ndarray, rate_hz: int, text: str, aligner: Aligner, *, min_confidence: float = 0.0
) -> Aligned:
    """The words of a text with their times in the wave.

    wave_T: float32 [sample]. The confidence of all words is the geometric mean of theirs, each weighted by how long it
    lasts. A word is doubtful if that of itself and the _NEIGHBOURS on either side is below min_confidence: a single
    word is too short to tell. Raises MediaError: EMPTY without a word or without sound, NOT_ALIGNED if the sound holds
    no such words, or holds them with a confidence below min_confidence.
    """
    texts = split_words(text)
    if not texts or not len(wave_T):
        raise MediaError(Reason.EMPTY, f"a transcript of {len(texts)} words over {len(wave_T)} samples of sound")
    duration_s = len(wave_T) / rate_hz
    places = aligner(wave_T, rate_hz, texts)
    words = [
        TimedWord(text, place.start_s, min(place.end_s, duration_s), place.confidence)
        for text, place in zip(texts, places, strict=True)
        if place is not None
    ]
    unsayable = [text for text, place in zip(texts, places, strict=True) if place is None]
    if not words:
        raise MediaError(Reason.NOT_ALIGNED, f"none of its {len(texts)} words can be said, as {unsayable[0]!r}")
    confidence = joint_confidence(words)
    if confidence < min_confidence:
        raise MediaError(
            Reason.NOT_ALIGNED,
            f"{len(words)} words in {duration_s:.1f} s have a confidence of {confidence:.3f}; min_confidence is "
            f"{min_confidence:g}: is it the transcript of this recording, in the aligner's language?",
        )
    is_sure = [
        joint_confidence(words[max(0, index - _NEIGHBOURS) : index + _NEIGHBOURS + 1]) >= min_confidence
        for index in range(len(words))
    ]
    sure = [word for word, is_one in zip(words, is_sure, strict=True) if is_one]
    doubtful = [word.text for word, is_one in zip(words, is_sure, strict=True) if not is_one]
    return Aligned(sure, unsayable, doubtful, confidence)


def joint_confidence(words: Sequence[TimedWord]) -> float:
    """Geometric mean of the words' confidences, weighted by their durations."""
    total_s = sum(word.end_s - word.start_s for word in words)
    logs = sum((word.end_s - word.start_s) * math.log(max(word.confidence, 1e-30)) for word in words)
    return math.exp(logs / total_s)
