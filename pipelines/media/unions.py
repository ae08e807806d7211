"""Unions of half-open intervals of time."""

from collections.abc import Iterable, Sequence

from pipelines.media.segments import Interval


def merge(intervals: Iterable[Interval]) -> list[Interval]:
    """The union of half-open intervals as intervals that rise and do not meet; those that end before they start, or as
    they do, are nothing."""
    merged: list[Interval] = []
    for start_s, end_s in sorted(interval for interval in intervals if interval[0] < interval[1]):
        if merged and start_s <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end_s, merged[-1][1]))
        else:
            merged.append((start_s, end_s))
    return merged


def meet(left: Sequence[Interval], right: Sequence[Interval]) -> list[Interval]:
    """The intersection of two unions that merge() gave."""
    found, first = [], 0
    for start_s, end_s in left:
        while first < len(right) and right[first][1] <= start_s:
            first += 1
        place = first
        while place < len(right) and right[place][0] < end_s:
            found.append((max(start_s, right[place][0]), min(end_s, right[place][1])))
            place += 1
    return found


def length_s(intervals: Iterable[Interval]) -> float:
    """How long intervals that do not overlap last together, to the microsecond."""
    return round(sum(end_s - start_s for start_s, end_s in intervals), 6)
