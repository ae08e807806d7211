"""Spans of words that belong together, and where a long span may be cut without cutting a word."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import numpy as np

from pipelines.media.audio import from_pcm16
from pipelines.media.spans import Span, span

_BLOCK_S = 0.02
_PCM_BYTES = 2
_SENTENCE_ENDS = (".", "!", "?", "…", "。", "！", "？")  # noqa: RUF001  # what other scripts write
_CLOSING = "\"'”’»)]}」"  # noqa: RUF001  # as above


def word_spans(words: Sequence[Span], *, max_gap_s: float, sentences: bool) -> list[Span]:
    """A span with text for each group of words: a group ends where nothing is said for more than max_gap_s, and with
    sentences=True after a word that ends one.

    words: by their starts. Where they overlap, a group lasts until the last of them ends.
    """
    groups: list[list[Span]] = []
    end_s = 0.0
    for word in words:
        ends = groups and sentences and _ends_sentence(groups[-1][-1]["text"] or "")
        if not groups or ends or word["start_s"] - end_s > max_gap_s:
            groups.append([])
            end_s = word["end_s"]
        groups[-1].append(word)
        end_s = max(end_s, word["end_s"])
    return [
        span(group[0]["start_s"], max(word["end_s"] for word in group), text=joined(group) or None) for group in groups
    ]


def joined(words: Sequence[Span]) -> str:
    """The text of the words."""
    return " ".join(word["text"] for word in words if word["text"])


def _ends_sentence(text: str) -> bool:
    return text.rstrip(_CLOSING).endswith(_SENTENCE_ENDS)


class WordGaps:
    """The pauses between the words of a recording. Words that follow without one have a gap of no length between."""

    def __init__(self, words: Sequence[Span]) -> None:
        said: list[tuple[float, float]] = []
        for start_s, end_s in sorted((one["start_s"], one["end_s"]) for one in words if one["end_s"] > one["start_s"]):
            if said and start_s < said[-1][1]:
                said[-1] = (said[-1][0], max(end_s, said[-1][1]))
            else:
                said.append((start_s, end_s))
        self._starts_s = [*(start_s for start_s, _ in said), math.inf]  # of what follows each gap
        self._ends_s = [-math.inf, *(end_s for _, end_s in said)]  # of what comes before it

    def widest(self, low_s: float, high_s: float, ideal_s: float) -> float | None:
        """The middle of the longest gap within [low_s, high_s], of equal ones the nearest to ideal_s; None if there is
        none."""
        near = slice(bisect_left(self._starts_s, low_s), bisect_right(self._ends_s, high_s))
        gaps = [
            (max(end_s, low_s), min(start_s, high_s))
            for end_s, start_s in zip(self._ends_s[near], self._starts_s[near], strict=True)
        ]
        if not gaps:
            return None
        start_s, end_s = max(gaps, key=lambda gap: (gap[1] - gap[0], -abs((gap[0] + gap[1]) / 2 - ideal_s)))
        return (start_s + end_s) / 2


def quietest(
    pcm: bytes, rate_hz: float, start_s_of_pcm: float, *, low_s: float, high_s: float, ideal_s: float
) -> float | None:
    """The middle of the 20 ms of least energy within [low_s, high_s], the nearest to ideal_s of equal ones; None if
    the audio has no such stretch there."""
    first = max(0, round((low_s - start_s_of_pcm) * rate_hz))
    block = max(1, round(_BLOCK_S * rate_hz))
    stop = max(first, round((high_s - start_s_of_pcm) * rate_hz))
    wave_T = from_pcm16(pcm[first * _PCM_BYTES : stop * _PCM_BYTES])
    num_blocks = len(wave_T) // block
    if not num_blocks:
        return None
    energy_B = np.square(wave_T[: num_blocks * block], dtype=np.float64).reshape(num_blocks, block).sum(axis=1)
    middle_B = start_s_of_pcm + (first + block * (np.arange(num_blocks) + 0.5)) / rate_hz
    order_B = np.lexsort((np.abs(middle_B - ideal_s), energy_B))
    return float(middle_B[order_B[0]])
