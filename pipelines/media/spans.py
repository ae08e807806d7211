"""Spans: stretches of a recording's timeline with what is known of them."""

from typing import Any

Span = dict[str, Any]
"""One value of features.sample.SPAN: start_s, end_s, key, text, label, meta."""


def span(
    start_s: float, end_s: float, *, key: str | None = None, text: str | None = None, label: str | None = None
) -> Span:
    """A span with every field that is not given absent."""
    return {"start_s": start_s, "end_s": end_s, "key": key, "text": text, "label": label, "meta": None}


def by_time(spans: list[Span]) -> list[Span]:
    """The spans by start, then end; those that tie keep their order."""
    return sorted(spans, key=lambda one: (one["start_s"], one["end_s"]))
