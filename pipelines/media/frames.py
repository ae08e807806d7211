"""Which frames belong to a stretch of time: a frame is on screen until the next one, the last one until the end."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence


def slice_frames(times_s: Sequence[float], end_s: float, start_s: float, stop_s: float) -> range:
    """Indices of the frames on screen at some moment of [start_s, stop_s).

    times_s: strictly rising; end_s: when the last frame goes. The frame already on screen at start_s counts, so the
    first time may lie before start_s, and every stretch that the video covers has a frame, however short it is.
    """
    if not times_s or start_s >= end_s or stop_s <= start_s:
        return range(0)
    first = max(0, bisect_right(times_s, start_s) - 1)
    return range(first, max(first, bisect_left(times_s, stop_s)))


def key_frame(times_s: Sequence[float], end_s: float, start_s: float, stop_s: float) -> int | None:
    """Index of the frame on screen in the middle of [start_s, stop_s).

    Where the video does not cover the middle, the frame of the stretch that is nearest to it; None if the stretch has
    no frame.
    """
    frames = slice_frames(times_s, end_s, start_s, stop_s)
    if not frames:
        return None
    middle = bisect_right(times_s, (start_s + stop_s) / 2) - 1
    return min(max(middle, frames[0]), frames[-1])
