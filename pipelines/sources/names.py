"""Which file is which: by its extension, in folders and in tars alike."""

import json
import math
from typing import Any

from features.reasons import Reason
from pipelines.job import Reject
from pipelines.media.transcripts.whisper import is_whisper
from pipelines.raw import COLUMNS, FILE_COLUMNS, RawSample

# Of several in a folder the first one here is taken: the one that tells the most.
_TRANSCRIPTS = (
    *(".textgrid", ".eaf", ".transcript.json", ".whisper.json", ".json", ".transcript.tsv", ".transcript.csv"),
    *(".vtt", ".srt", ".tsv", ".ctm"),
)
_COLUMN_OF_SUFFIX = {
    **dict.fromkeys((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"), "image"),
    **dict.fromkeys((".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac"), "audio"),
    **dict.fromkeys((".mp4", ".mkv", ".mov", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".ts"), "video"),
    **dict.fromkeys(_TRANSCRIPTS, "transcript"),
    **dict.fromkeys((".labels.csv", ".labels.tsv", ".labels.textgrid", ".labels.eaf", ".rttm"), "labels"),
    ".txt": "text",
    ".cls": "label",
    ".json": "meta",  # unless its content is a transcript
}
_DOUBLE_SUFFIXES = tuple(suffix for suffix in _COLUMN_OF_SUFFIX if suffix.count(".") > 1)
INLINE = {"text": ".txt", "label": ".cls", "meta": ".json"}  # small enough to be read while listing


def column_of(suffix: str) -> str | None:
    """The column that a file of the suffix fills, if any."""
    return _COLUMN_OF_SUFFIX.get(suffix.lower())


def column_of_json(content: bytes) -> str:
    """What a file ending in .json is beside a recording: its transcript, if it has the segments or words that Whisper
    writes, else its metadata."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return "meta"  # where it is a reject with the cause
    return "transcript" if is_whisper(found) else "meta"


def preference(suffix: str) -> int:
    """Which of the transcripts of one sample is taken: the one with the least number."""
    return _TRANSCRIPTS.index(suffix.lower()) if suffix.lower() in _TRANSCRIPTS else 0


def split_suffix(name: str) -> tuple[str, str]:
    """Stem and suffix of a file name; a double suffix as .labels.csv counts as one."""
    for suffix in _DOUBLE_SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)], suffix
    stem, dot, suffix = name.rpartition(".")
    return (stem, dot + suffix) if stem else (name, "")


def take_inline(sample: RawSample, column: str, content: bytes) -> Reject | None:
    """Put a small text file's content into the sample; a reject if it is no UTF-8 or no JSON object that fits."""
    try:
        text = content.decode("utf-8-sig")
        if column == "meta":
            take_meta(sample, json.loads(text))
        elif column == "label":
            sample.label = text.strip() or None
        else:
            sample.text = text.strip()
    except (ValueError, RecursionError) as error:
        return lost_inline(sample, column, Reason.UNDECODABLE, f"cannot be used ({error}): mend the file")
    return None


def lost_inline(sample: RawSample, column: str, reason: Reason, cause: str) -> Reject:
    """The reject of a small file; the sample itself goes on without it."""
    dropped = "text" if column == "text" else "part"
    return Reject(sample.key, "ingest", reason, dropped, f"{sample.where}: its {INLINE[column]} file {cause}")


def take_meta(sample: RawSample, content: Any) -> None:
    """Spread a JSON object over the sample: known columns to their fields, the rest to meta; null is no value.

    Raises ValueError, and takes nothing of it, if a value cannot be used.
    """
    if not isinstance(content, dict):
        raise ValueError(f"expected an object, found {type(content).__name__}")
    fields: dict[str, Any] = {}
    meta: dict[str, Any] = {}
    for name, value in content.items():
        if value is None:
            continue
        if name in ("start_s", "end_s"):
            fields[name] = seconds_of(value)
        elif name in COLUMNS and name not in FILE_COLUMNS and name != "key":
            if isinstance(value, dict | list):
                raise ValueError(f"{name} is a {type(value).__name__}, it must be a string or a number")
            fields[name] = str(value)
        else:
            meta[name] = value
    for name, value in fields.items():
        setattr(sample, name, value)
    sample.meta.update(meta)


def seconds_of(value: Any) -> float:
    """The number that a cell or a JSON value holds. Raises ValueError if it is none or not finite."""
    try:
        seconds = float(value)
    except TypeError as error:
        raise ValueError(f"a {type(value).__name__} is no number") from error
    if not math.isfinite(seconds):
        raise ValueError(f"{value} is not finite")
    return seconds
