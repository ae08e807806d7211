"""Transcripts (SRT, WebVTT) and label files (CSV) as spans."""

import codecs
import csv
import html
import io
import math
import re
from itertools import takewhile

from features.reasons import MediaError, Reason
from pipelines.media.spans import Span, by_time, span

_CLOCK = r"(?:(\d+):)?(\d{1,2}):(\d{1,2})[.,](\d{1,3})"
_TIMING = re.compile(rf"\s*{_CLOCK}\s*-->\s*{_CLOCK}(?:\s.*)?")
_TAG = re.compile(r"</?[A-Za-z][^<>]*>|<\d[\d:.]*>|</?>")  # <i>, </font>, <v Anna>, <00:01.500>; not "a < b"
_OVERRIDE = re.compile(r"\{[^{}]*\}")  # {\an8}, as SubRip and SubStation Alpha have it
_LABEL_COLUMNS = ("start_s", "end_s", "label")


def parse_transcript(content: str | bytes, suffix: str) -> list[Span]:
    """The cues of an SRT (".srt") or WebVTT (".vtt") transcript in order of time, markup stripped.

    A cue without words has no text. Bytes are UTF-8 or, with its mark, UTF-16; what is neither is read as
    Windows-1252.
    Raises MediaError BAD_TRANSCRIPT, with the line that cannot be read.
    """
    if suffix.lower() not in (".srt", ".vtt"):
        raise MediaError(Reason.BAD_TRANSCRIPT, f"transcript ends in {suffix!r}; it must be .srt or .vtt")
    lines = _decode(content).splitlines()
    timings = [number for number, line in enumerate(lines) if "-->" in line]
    if not timings:
        raise MediaError(Reason.BAD_TRANSCRIPT, f"transcript of {len(lines)} lines holds no cue ('start --> end')")
    block = _vtt_text if suffix.lower() == ".vtt" else _srt_text
    cues = []
    for number, following in zip(timings, [*timings[1:], None], strict=True):
        start_s, end_s = _parse_timing(lines[number], number + 1)
        text = plain_cue(" ".join(block(lines[number + 1 : following], is_last=following is None)))
        cues.append(span(start_s, end_s, text=text or None))
    return by_time(cues)


def plain_cue(text: str) -> str:
    """A cue's text without tags, override codes, entities and line breaks."""
    bare = _OVERRIDE.sub("", text.replace(r"\N", " ").replace(r"\n", " ").replace(r"\h", " "))
    return " ".join(html.unescape(_TAG.sub("", bare)).split())


def parse_labels(content: bytes) -> list[Span]:
    """The spans of a CSV file with the columns start_s, end_s and label, in order of time; other columns are ignored.

    Raises MediaError BAD_LABELS, with row (the header is row 1) and column.
    """
    try:
        rows = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        missing = [name for name in _LABEL_COLUMNS if name not in (rows.fieldnames or [])]
        if missing:
            raise MediaError(Reason.BAD_LABELS, f"labels have columns {rows.fieldnames}; {missing} are missing")
        return by_time([_parse_label(row, rows.line_num) for row in rows])
    except (UnicodeDecodeError, csv.Error) as error:
        raise MediaError(Reason.BAD_LABELS, f"labels are no CSV in UTF-8: {error}") from error


def _parse_label(row: dict[str, str | None], number: int) -> Span:
    start_s, end_s = (_parse_seconds(row[name], number, name) for name in ("start_s", "end_s"))
    label = (row["label"] or "").strip()
    if end_s <= start_s:
        raise MediaError(Reason.BAD_LABELS, f"labels, row {number}: end_s {end_s:g} must be after start_s {start_s:g}")
    if not label:
        raise MediaError(Reason.BAD_LABELS, f"labels, row {number}, column label: it is empty")
    return span(start_s, end_s, label=label)


def _parse_seconds(value: str | None, number: int, column: str) -> float:
    try:
        seconds = float(value or "")
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        raise MediaError(Reason.BAD_LABELS, f"labels, row {number}, column {column}: {value!r} is no number of seconds")
    return seconds


def _decode(content: str | bytes) -> str:
    if isinstance(content, str):
        return content.removeprefix("\ufeff")
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", errors="replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass
    try:
        return content.decode("cp1252")
    except UnicodeDecodeError as error:
        raise MediaError(Reason.BAD_TRANSCRIPT, f"transcript is neither UTF-8 nor Windows-1252: {error}") from error


def _parse_timing(line: str, number: int) -> tuple[float, float]:
    match = _TIMING.fullmatch(line)
    if match is None:
        raise MediaError(
            Reason.BAD_TRANSCRIPT, f"transcript, line {number}: {line.strip()!r} is no 'hh:mm:ss,mmm --> hh:mm:ss,mmm'"
        )
    fields = match.groups()
    return _seconds(*fields[:4]), _seconds(*fields[4:])


def _seconds(hours: str | None, minutes: str, seconds: str, fraction: str) -> float:
    whole_s = int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds)
    return (whole_s * 1000 + int(fraction.ljust(3, "0"))) / 1000


def _vtt_text(lines: list[str], *, is_last: bool) -> list[str]:
    """Up to the first blank line: comments and the next cue's name come after it."""
    return list(takewhile(str.strip, lines))


def _srt_text(lines: list[str], *, is_last: bool) -> list[str]:
    """All but the next cue's number: many files have blank lines inside a cue."""
    return lines[:-1] if not is_last and lines and lines[-1].strip().isdigit() else lines
