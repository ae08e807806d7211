"""Spans: stretches of a recording's timeline with what is known of them."""

from dataclasses import dataclass
from typing import Any

from features.reasons import Reason

Span = dict[str, Any]
"""One value of features.sample.SPAN: start_s, end_s, key, text, label, meta."""


@dataclass(frozen=True)
class Notice:
    """What is odd about a recording as a whole, with its numbers. dropped as of a reject, often "nothing"."""

    reason: Reason
    text: str
    dropped: str = "nothing"


def span(
    start_s: float, end_s: float, *, key: str | None = None, text: str | None = None, label: str | None = None
) -> Span:
    """A span with every field that is not given absent."""
    return {"start_s": start_s, "end_s": end_s, "key": key, "text": text, "label": label, "meta": None}


def by_time(spans: list[Span]) -> list[Span]:
    """The spans by start, then end; those that tie keep their order."""
    return sorted(spans, key=lambda one: (one["start_s"], one["end_s"]))
