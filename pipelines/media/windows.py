"""Windows of one length over a recording."""

from pipelines.media.segments import Interval
from pipelines.media.spans import Span, span


def window_spans(extent: Interval, *, length_s: float, hop_s: float) -> list[Span]:
    """Windows that begin every hop_s from the start of the extent, until one reaches its end and is cut off there.

    Times are whole milliseconds, computed from the window's number so that no error adds up.
    """
    first_s, last_s = round(extent[0], 3), round(extent[1], 3)
    spans: list[Span] = []
    while not spans or spans[-1]["end_s"] < last_s:
        start_s = round(first_s + len(spans) * hop_s, 3)
        if start_s >= last_s:  # between two windows that do not meet
            break
        spans.append(span(start_s, min(round(start_s + length_s, 3), last_s)))
    return spans
