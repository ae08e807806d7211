"""Which file is which: by its extension, in folders and in tars alike."""

import json
from typing import Any

from features.errors import SourceError
from pipelines.raw import COLUMNS, FILE_COLUMNS, RawSample

_COLUMN_OF_SUFFIX = {
    **dict.fromkeys((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"), "image"),
    **dict.fromkeys((".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac"), "audio"),
    **dict.fromkeys((".mp4", ".mkv", ".mov", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".ts"), "video"),
    **dict.fromkeys((".srt", ".vtt"), "transcript"),
    ".labels.csv": "labels",
    ".txt": "text",
    ".cls": "label",
    ".json": "meta",
}
INLINE = ("text", "label", "meta")  # small enough to be read while listing


def column_of(suffix: str) -> str | None:
    """The column that a file of the suffix fills, if any."""
    return _COLUMN_OF_SUFFIX.get(suffix.lower())


def split_suffix(name: str) -> tuple[str, str]:
    """Stem and suffix of a file name; the double suffix .labels.csv counts as one."""
    for suffix in (".labels.csv",):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)], suffix
    stem, dot, suffix = name.rpartition(".")
    return (stem, dot + suffix) if stem else (name, "")


def take_inline(sample: RawSample, column: str, content: bytes) -> None:
    """Put a small text file's content into the sample. Raises SourceError if it is no UTF-8 or no JSON object."""
    try:
        text = content.decode("utf-8-sig")
        if column == "meta":
            take_meta(sample, json.loads(text))
        else:
            setattr(sample, column, text.strip())
    except ValueError as error:
        raise SourceError(
            f"{sample.where}: its {column} is no valid UTF-8 {column} ({error}): mend the file"
        ) from error


def take_meta(sample: RawSample, content: Any) -> None:
    """Spread a JSON object over the sample: known columns to their fields, the rest to meta."""
    if not isinstance(content, dict):
        raise ValueError(f"expected an object, found {type(content).__name__}")
    for name, value in content.items():
        if name in ("start_s", "end_s"):
            setattr(sample, name, float(value))
        elif name in COLUMNS and name not in FILE_COLUMNS and name != "key":
            setattr(sample, name, str(value))
        else:
            sample.meta[name] = value
