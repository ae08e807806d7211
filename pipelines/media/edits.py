"""What an mp4 or mov file says of when its tracks are shown: edit lists, to be followed to the tick.

libav follows them by whole packets: where an edit cuts into a picture, it lets all that follow come early by what is
left of that picture, up to a frame between picture and sound in a film that was trimmed without encoding it again. And
it shows the pictures of fragments too late if some are shown before they are decoded.
"""

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO

import numpy as np

_FILE_STARTS = {b"ftyp", b"styp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"}
_NORMAL_SPEED = b"\0\1\0\0"
_SHOWS_NOTHING = -1  # as the media time of an edit
_NUM_HEAD_BYTES = 8
_ROUNDING_S = 2e-6  # times are kept to the microsecond: two that are nearer may be the same tick
# Flags of a fragment's run: what stands before its table, and what a row of it holds, 4 bytes each; offsets come last.
_RUN_HEADS, _RUN_COLUMNS, _HAS_OFFSETS = (0x1, 0x4), (0x100, 0x200, 0x400, 0x800), 0x800


@dataclass(frozen=True)
class Edit:
    """A stretch of a stream's media, and when its beginning is shown; in seconds. duration_s is infinite if it goes on
    to the end of the media."""

    media_s: float
    duration_s: float
    shown_s: float


Edits = tuple[Edit, ...]
"""What is shown of a stream, in order; empty if all of it is, at its own time."""


@dataclass(frozen=True)
class TrackTimes:
    """How a track is shown. late_s: how much later than the file says libav takes its pictures to be shown."""

    edits: Edits = ()
    late_s: float = 0.0


def shown(edits: Edits, start_s: float, end_s: float) -> Iterator[tuple[float, float, float]]:
    """The parts of [start_s, end_s) of the media that are shown: their start and end there, and when they are shown."""
    if not edits:
        yield start_s, end_s, start_s
    for edit in edits:
        first_s, last_s = max(start_s, edit.media_s), min(end_s, edit.media_s + edit.duration_s)
        is_moment = first_s == start_s == end_s < edit.media_s + edit.duration_s
        if is_moment or last_s - first_s > _ROUNDING_S:
            yield first_s, last_s, round(edit.shown_s + first_s - edit.media_s, 6) + 0.0  # no minus zero


def delayed(edits: Edits, delay_s: float) -> Edits:
    """The edits, shown later."""
    return tuple(replace(edit, shown_s=edit.shown_s + delay_s) for edit in edits)


def read_track_times(file: BinaryIO) -> dict[int, TrackTimes]:
    """How the tracks of an mp4 or mov file are shown, by track id; of another or a damaged file nothing.

    Nothing either where an edit shows media out of order or at another speed: libav does what it can with these.
    The file is left at its beginning.
    Source: ISO/IEC 14496-12, 8.6.6 (edit list box) and 8.8.8 (track fragment run box).
    """
    head = file.read(_NUM_HEAD_BYTES)
    try:
        return _read_tracks(file) if head[4:] in _FILE_STARTS else {}
    except (IndexError, KeyError, ValueError, ZeroDivisionError):
        return {}  # damaged: whether it can be decoded all the same is for libav to say
    finally:
        file.seek(0)


def _read_tracks(file: BinaryIO) -> dict[int, TrackTimes]:
    tracks: dict[int, TrackTimes] = {}
    clocks_hz: dict[int, int] = {}
    for name, body in _read_indices(file):
        if name == b"moov":
            movie_hz = _field(_child(body, b"mvhd"), 12, 20)
            is_fragmented = any(name == b"mvex" for name, _ in _boxes(body))
            for track in (inner for name, inner in _boxes(body) if name == b"trak"):
                track_id = _field(_child(track, b"tkhd"), 12, 20)
                clocks_hz[track_id] = _field(_child(track, b"mdia", b"mdhd"), 12, 20)
                edits = _read_edits(track, movie_hz, clocks_hz[track_id], is_open=is_fragmented)
                if edits is None:
                    return {}
                tracks[track_id] = TrackTimes(edits)
        else:
            for part in (inner for name, inner in _boxes(body) if name == b"traf"):
                track_id = int.from_bytes(_child(part, b"tfhd")[4:8])
                late_s = max(0, -_least_offset(part)) / clocks_hz[track_id]
                tracks[track_id] = replace(tracks[track_id], late_s=max(tracks[track_id].late_s, late_s))
    return tracks


def _read_indices(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """The movie and fragment boxes of a file, with their content; what lies between them is not read."""
    num_bytes = file.seek(0, io.SEEK_END)
    file.seek(0)
    while len(head := file.read(_NUM_HEAD_BYTES)) == _NUM_HEAD_BYTES:
        size, name, num_head_bytes = int.from_bytes(head[:4]), head[4:], _NUM_HEAD_BYTES
        if size == 1:  # too long for 32 bits
            size, num_head_bytes = int.from_bytes(file.read(8)), 2 * _NUM_HEAD_BYTES
        if size < num_head_bytes:  # 0: the last box, and the media as a rule
            return
        rest = min(size - num_head_bytes, num_bytes - file.tell())  # a broken one may be longer than any file
        if name in (b"moov", b"moof"):
            yield name, file.read(rest)
        else:
            file.seek(rest, io.SEEK_CUR)


def _boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    start = 0
    while start + _NUM_HEAD_BYTES <= len(content):
        size = int.from_bytes(content[start : start + 4])
        if size < _NUM_HEAD_BYTES:  # no box in an index is longer than 32 bits can say
            return
        yield content[start + 4 : start + 8], content[start + 8 : start + size]
        start += size


def _child(content: bytes, *path: bytes) -> bytes:
    """The content of a box inside of others. Raises KeyError if it is not there."""
    for name in path:
        content = dict(_boxes(content))[name]
    return content


def _field(content: bytes, place: int, long_place: int) -> int:
    """A number of 32 bits of a header, whose times are of 32 bits or, with version 1, of 64 bits."""
    start = long_place if content[0] == 1 else place
    return int.from_bytes(content[start : start + 4])


def _read_edits(track: bytes, movie_hz: int, media_hz: int, *, is_open: bool) -> Edits | None:
    """The edits of a track; None if they are of a kind that is left to libav.

    is_open: the last one goes on to the end of the media, which the index does not know.
    """
    try:
        content = _child(track, b"edts", b"elst")
    except KeyError:
        return ()
    width = 8 if content[0] == 1 else 4
    size = 2 * width + 4
    edits: list[Edit] = []
    shown_s = 0.0
    for index in range(int.from_bytes(content[4:8])):
        entry = content[8 + index * size : 8 + (index + 1) * size]
        duration_s = int.from_bytes(entry[:width]) / movie_hz
        media = int.from_bytes(entry[width : 2 * width], signed=True)
        if media != _SHOWS_NOTHING:
            media_s = media / media_hz
            is_next = not edits or media_s >= edits[-1].media_s + edits[-1].duration_s
            if entry[2 * width :] != _NORMAL_SPEED or not is_next:
                return None
            edits.append(Edit(media_s, duration_s or math.inf, shown_s))
        shown_s += duration_s
    if edits and is_open:
        edits[-1] = replace(edits[-1], duration_s=math.inf)
    return tuple(edits)


def _least_offset(part: bytes) -> int:
    """The least composition offset of a track's part of a fragment, in ticks of the media; 0 if it has none."""
    least = 0
    for run in (content for name, content in _boxes(part) if name == b"trun"):
        flags = int.from_bytes(run[1:4])
        num_columns = sum(bool(flags & column) for column in _RUN_COLUMNS)
        if flags & _HAS_OFFSETS:
            start = 8 + 4 * sum(bool(flags & field) for field in _RUN_HEADS)
            table = np.frombuffer(run, ">i4", int.from_bytes(run[4:8]) * num_columns, start)
            least = min(least, int(table[num_columns - 1 :: num_columns].min(initial=0)))
    return least
