"""What is known along a recording's timeline: its words, cues and labels, asked for a stretch of it."""

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

from features.sample import MediaRow
from pipelines.media.segments import Interval, Segment
from pipelines.media.spans import Span
from pipelines.media.spoken import WordGaps, joined

_INEXACT_S = 2.0


class Said:
    """What is said and labelled in one recording, indexed once for all of its segments."""

    def __init__(self, row: MediaRow) -> None:
        self._text: str | None = row["text"]
        self._words = None if row["words"] is None else _ByMiddle(row["words"])
        self._cues = _ByMiddle(row["cues"] or ())
        self._labels: list[Span] = row["labels"] or []
        self._label_times_N2 = np.array([(one["start_s"], one["end_s"]) for one in self._labels]).reshape(-1, 2)
        self.gaps = WordGaps(row["words"] or ())

    @property
    def has_words(self) -> bool:
        """Whether the times of words are known."""
        return self._words is not None

    def words_in(self, stretch: Interval) -> list[Span] | None:
        """The words whose middle lies in the stretch, in order, cut off at its edges; None if times are not known."""
        if self._words is None:
            return None
        start_s, end_s = stretch
        return [
            {**word, "start_s": max(word["start_s"], start_s), "end_s": min(word["end_s"], end_s)}
            for word in self._words.within(stretch)
        ]

    def label_in(self, stretch: Interval) -> str | None:
        """The label whose interval overlaps the stretch the longest; the earlier one of two; None if none does."""
        if not self._labels:
            return None
        start_N, end_N = self._label_times_N2.T
        overlap_N = np.minimum(stretch[1], end_N) - np.maximum(stretch[0], start_N)
        best = int(np.argmax(overlap_N))
        return self._labels[best]["label"] if overlap_N[best] > 0 else None

    def text_in(self, segment: Segment, span: Span, *, is_own: bool) -> str | None:
        """The text of a segment: its span's own, or else what is said in it.

        Of a span that was divided its own text is divided by its words, and absent where their times are not known.
        What is said is the words or, without them, the text of the cues whose middle lies in it; a recording that has
        neither gives each segment its text as a whole, as its image and its label. is_own: the span's text is all
        there is, also where it has none.
        """
        if segment.part and span["text"]:
            own = self._own_words(span)
            return self._spoken_in(segment.core) if own is None else joined(_ByMiddle(own).within(segment.part)) or None
        if span["text"] or is_own:
            return span["text"] or None
        if self._words is not None:
            return self._spoken_in(segment.core)
        return joined(self._cues.within(segment.core)) or None if self._cues else self._text

    def _own_words(self, span: Span) -> list[Span] | None:
        """The words that the text of a span is made of, as they follow each other nearest to its start; None if they
        are not found so. Cues are seldom exact: the first and the last word may be said before or after them."""
        tokens = span["text"].split()
        near = self._words.within((span["start_s"] - _INEXACT_S, span["end_s"] + _INEXACT_S)) if self._words else []
        runs = [near[first : first + len(tokens)] for first in range(len(near) - len(tokens) + 1)]
        found = [run for run in runs if [word["text"] for word in run] == tokens]
        return min(found, key=lambda run: abs(run[0]["start_s"] - span["start_s"]), default=None)

    def _spoken_in(self, stretch: Interval) -> str | None:
        return joined(self._words.within(stretch)) or None if self._words else None


class _ByMiddle:
    """Spans in the order of their middles, so that those of a stretch are found without a look at all."""

    def __init__(self, spans: Sequence[Span]) -> None:
        middles_s = [(one["start_s"] + one["end_s"]) / 2 for one in spans]
        self._spans = spans
        self._order = sorted(range(len(spans)), key=middles_s.__getitem__)
        self._middles_s = [middles_s[place] for place in self._order]

    def __len__(self) -> int:
        return len(self._spans)

    def within(self, stretch: Interval) -> list[Span]:
        """The spans whose middle lies in the stretch, in the order in which they were given."""
        first, last = (bisect_left(self._middles_s, time_s) for time_s in stretch)
        return [self._spans[place] for place in sorted(self._order[first:last])]
