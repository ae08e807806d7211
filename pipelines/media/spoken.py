"""Spans of words that belong together, and where a long span may be cut without cutting a word."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from pipelines.media.audio import from_pcm16
from pipelines.media.spans import Span, span

_BLOCK_S = 0.02
_PCM_BYTES = 2
_SENTENCE_ENDS = (".", "!", "?", "…", "。", "！", "？")  # noqa: RUF001  # what other scripts write
_CLOSING = "\"'”’»)]}」"  # noqa: RUF001


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


def widest_gap(words: Sequence[Span], low_s: float, high_s: float, ideal_s: float) -> float | None:
    """The middle of the longest stretch between words within [low_s, high_s], the nearest to ideal_s of equal ones;
    None if words fill all of it. Words that follow without a pause have a gap of no length between them."""
    spoken = sorted((word["start_s"], word["end_s"]) for word in words if word["end_s"] > word["start_s"])
    merged: list[tuple[float, float]] = []
    for start_s, end_s in spoken:
        if merged and start_s < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end_s, merged[-1][1]))
        else:
            merged.append((start_s, end_s))
    edges = [(float("-inf"), float("-inf")), *merged, (float("inf"), float("inf"))]
    gaps = [(max(end_s, low_s), min(start_s, high_s)) for (_, end_s), (start_s, _) in pairwise(edges)]
    within = [(start_s, end_s) for start_s, end_s in gaps if start_s <= end_s]
    if not within:
        return None
    start_s, end_s = max(within, key=lambda gap: (gap[1] - gap[0], -abs((gap[0] + gap[1]) / 2 - ideal_s)))
    return (start_s + end_s) / 2


def quietest(
    pcm: bytes, rate_hz: int, start_s_of_pcm: float, *, low_s: float, high_s: float, ideal_s: float
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
