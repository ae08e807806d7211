"""When a file says that it ends."""

import io
import re
from typing import Any, BinaryIO

import av

from features.reasons import MediaError, Reason

# libav guesses the duration of raw streams from the bit rate of their beginning, often far off; the counts in an AVI
# header are as often wrong, and its size is checked instead. Of an Ogg file it takes the last page that is there, and
# counts from zero even where the first page does not.
_UNSURE = {"aac", "ac3", "eac3", "dts", "avi", "ogg"}
# These declare one duration for all, that of the longest stream, and libav gives it to shorter ones too.
_DECLARE_ONE = {"matroska,webm", "flv", "asf"}
_DURATION_TAG = re.compile(r"(\d+):(\d{2}):(\d{2}(?:\.\d+)?)")  # as Matroska keeps it, one for each stream
_RIFF_SLACK_BYTES = 1024  # sloppy writers miss by a few bytes; this is 32 ms of the smallest usual audio


def allowed_shortfall_s(duration_s: float) -> float:
    """How much of a declared duration may be missing: rounding and padding are, not speech."""
    return min(max(0.25, 0.02 * duration_s), 2.0)


def stream_end_s(container: Any, stream: Any) -> float | None:
    """End of a stream on the file's own clock, as the file declares it; None if it does not."""
    if container.format.name in _UNSURE or (container.format.name == "mp3" and not container.start_time):
        return None  # libav sets the start time of an mp3 from the very header that holds its duration
    if stream.duration and container.format.name not in _DECLARE_ONE:
        return float(((stream.start_time or 0) + stream.duration) * stream.time_base)
    tag = _DURATION_TAG.fullmatch(stream.metadata.get("DURATION", ""))
    return int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3]) if tag else None


def container_end_s(container: Any) -> float | None:
    """End of the longest stream on the file's own clock, as the file declares it; None if it does not."""
    if not container.duration or container.format.name in _UNSURE | {"mp3"}:
        return None
    counts_from_zero = "matroska" in container.format.name
    start = 0 if counts_from_zero else container.start_time or 0
    return float(start + container.duration) / av.time_base


def check_size(file: BinaryIO) -> None:
    """Raise MediaError: UNDECODABLE if a file is empty, TRUNCATED if a WAV or AVI is shorter than its first bytes say.

    libav takes the end of such a file for the end of the recording.
    """
    head = file.read(8)
    num_bytes = file.seek(0, io.SEEK_END)
    file.seek(0)
    if not num_bytes:
        raise MediaError(Reason.UNDECODABLE, "the file is empty: it has 0 bytes")
    declared = int.from_bytes(head[4:8], "little") + 8
    if head[:4] == b"RIFF" and declared < 0xFFFFFFFF and num_bytes < declared - _RIFF_SLACK_BYTES:
        raise MediaError(Reason.TRUNCATED, f"file has {num_bytes} bytes, its header declares {declared}")
