"""How spans of a recording's timeline become segments: the rules of length, padding and coverage, in their order."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from features.reasons import MediaError, Reason

Interval = tuple[float, float]
_ROUNDING = 1e-6  # of milliseconds, since 1.001 * 1000 is less than 1001
Choose = Callable[[float, float, float], float]
"""Where to cut: between the first and the second time, best near the third."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What a segment must be; the keys of the block align in params.yaml say the same."""

    min_s: float
    max_s: float | None = None
    pad_s: float = 0.0
    uncovered: Literal["keep", "drop", "shorten"] = "keep"


@dataclass(frozen=True)
class Segment:
    """A stretch of a recording that is cut out, and the part of it that its span names: the rest is padding, and what
    is said or labelled there is not the segment's. part: where the span was too long and gave several, from the cut
    before to the cut after, without end on the outside."""

    key: str
    start_s: float
    end_s: float
    core: Interval
    part: Interval | None = None


@dataclass(frozen=True)
class Loss:
    """What a rule took away; dropped as in a reject."""

    key: str
    reason: Reason
    dropped: str
    text: str


def cut_span(
    key: str, span: Interval, tracks: Mapping[str, Interval], rules: Rules, choose: Choose
) -> tuple[list[Segment], list[Loss]]:
    """The segments of one span, and what was lost of it.

    span: start and end on the recording's timeline, rounded here to the millisecond, as all times that come out.
    tracks: the interval that each modality on the timeline covers; without any, the span is neither clipped, padded
    nor divided. choose: places the cuts of a span that is longer than rules.max_s.
    Each rule works on what the one before gave: a span that ends before it starts or lies outside of the recording is
    rejected; it is clipped to the recording, padded within it, held against what the modalities cover, rejected if it
    is shorter than min_s (and not the whole recording), and divided if it is longer than max_s. So a span gives at
    least one segment, or one loss of a whole sample.
    """
    tracks = {name: (round(start, 3), round(end, 3)) for name, (start, end) in tracks.items()}
    asked = round(span[0], 3), round(span[1], 3)
    try:
        clipped = _clip(asked, tracks)
        padded = _pad(clipped, tracks, rules.pad_s)
        covered = _cover(padded, clipped, tracks, rules)
        if not tracks or covered != hull(tracks):
            _check_length(covered, asked, rules.min_s)
    except MediaError as error:
        return [], [Loss(key, error.reason, "sample", str(error))]
    losses = []
    if clipped != asked:
        text = f"{_said(asked)} shortened to {clipped[0]} to {clipped[1]} s, where the recording ends"
        losses.append(Loss(key, Reason.CLIPPED, "part", text))
    if covered != padded:
        text = f"{_said(padded)} shortened to {covered[0]} to {covered[1]} s, which {_listed(tracks)} cover"
        losses.append(Loss(key, Reason.UNCOVERED, "part", text))
    return _divide(key, covered, clipped, rules, choose), losses


def _clip(span: Interval, tracks: Mapping[str, Interval]) -> Interval:
    start_s, end_s = span
    if tracks and start_s == end_s and span == hull(tracks):
        raise MediaError(Reason.TOO_SHORT, "the recording lasts less than a millisecond")
    if end_s <= start_s:
        how = "before" if end_s < start_s else "as"
        raise MediaError(Reason.BAD_INTERVAL, f"{_said(span)} ends {how} it starts: mend its transcript or labels")
    if not tracks:
        return span
    first_s, last_s = hull(tracks)
    if start_s >= last_s or end_s <= first_s:
        text = f"{_said(span)} lies outside of the recording, which covers {first_s} to {last_s} s"
        raise MediaError(Reason.OUTSIDE_MEDIA, text)
    return max(start_s, first_s), min(end_s, last_s)


def _pad(span: Interval, tracks: Mapping[str, Interval], pad_s: float) -> Interval:
    if not tracks or not pad_s:
        return span
    first_s, last_s = hull(tracks)
    return max(round(span[0] - pad_s, 3), first_s), min(round(span[1] + pad_s, 3), last_s)


def _cover(span: Interval, core: Interval, tracks: Mapping[str, Interval], rules: Rules) -> Interval:
    """The span, or what of it all tracks cover. A track that lacks less than min_s of it, which is too short to be a
    segment, is not said to lack it."""
    if rules.uncovered == "keep" or not tracks:
        return span
    if rules.uncovered == "drop":
        for name, track in tracks.items():
            there_s = max(0.0, min(span[1], track[1]) - max(span[0], track[0]))
            if round(span[1] - span[0] - there_s, 3) >= rules.min_s:
                text = f"{_said(span)} has {name} for {there_s:.3f} s only, and align.uncovered is 'drop'"
                raise MediaError(Reason.UNCOVERED, text)
        return span
    start_s = max(span[0], *(track[0] for track in tracks.values()))
    end_s = min(span[1], *(track[1] for track in tracks.values()))
    if min(end_s, core[1]) <= max(start_s, core[0]):
        raise MediaError(Reason.UNCOVERED, f"{_said(core)} has no moment that {_listed(tracks)} cover")
    return start_s, end_s


def _check_length(span: Interval, asked: Interval, min_s: float) -> None:
    length_s = round(span[1] - span[0], 3)
    if length_s < min_s:
        raise MediaError(Reason.TOO_SHORT, f"{_said(asked)} has {length_s:.3f} s of media, align.min_s is {min_s:g}")


def _divide(key: str, span: Interval, core: Interval, rules: Rules, choose: Choose) -> list[Segment]:
    cuts_s = cut_times(span, min_s=rules.min_s, max_s=rules.max_s, choose=choose) if rules.max_s else []
    if not cuts_s:
        return [Segment(key, *span, core=_within(core, span))]
    stretches = pairwise([span[0], *cuts_s, span[1]])
    parts = pairwise([-math.inf, *cuts_s, math.inf])
    return [
        Segment(f"{key}/{index:04d}", *stretch, core=_within(core, stretch), part=part)
        for index, (stretch, part) in enumerate(zip(stretches, parts, strict=True))
    ]


def cut_times(span: Interval, *, min_s: float, max_s: float, choose: Choose) -> list[float]:
    """Where to cut the span, rising, into the fewest parts that are none longer than max_s, nor shorter than min_s.

    max_s: at least twice min_s. Equal parts would be the ideal; each cut has as much leeway around its ideal place as
    leaves both of its neighbours theirs.
    """
    start_ms, end_ms = round(span[0] * 1000), round(span[1] * 1000)
    shortest_ms, longest_ms = math.ceil(min_s * 1000 - _ROUNDING), math.floor(max_s * 1000 + _ROUNDING)
    length_ms = end_ms - start_ms
    num_parts = max(1, -(-length_ms // longest_ms))
    room_ms = min(longest_ms - -(-length_ms // num_parts), length_ms // num_parts - shortest_ms)
    leeway_ms = max(0, room_ms // 2)
    cuts_s = []
    for number in range(1, num_parts):
        ideal_ms = start_ms + number * length_ms // num_parts
        low_ms, high_ms = ideal_ms - leeway_ms, ideal_ms + leeway_ms
        chosen_s = choose(low_ms / 1000, high_ms / 1000, ideal_ms / 1000)
        cuts_s.append(min(max(round(chosen_s * 1000), low_ms), high_ms) / 1000)
    return cuts_s


def hull(tracks: Mapping[str, Interval]) -> Interval:
    """From the first to the last moment that any of the tracks covers; there must be one."""
    return min(start for start, _ in tracks.values()), max(end for _, end in tracks.values())


def _within(inner: Interval, outer: Interval) -> Interval:
    """What of inner lies in outer; where they do not meet, the empty interval at the end of outer nearest to inner."""
    start_s = min(max(inner[0], outer[0]), outer[1])
    return start_s, max(start_s, min(inner[1], outer[1]))


def _said(span: Interval) -> str:
    return f"segment {span[0]} to {span[1]} s"


def _listed(tracks: Mapping[str, Interval]) -> str:
    return " and ".join(tracks)
