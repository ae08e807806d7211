"""SRT and WebVTT, read by the packages srt and webvtt-py.

Both packages pass over a timing line that they cannot read, or read another time than it says ("00:01,500" as 1 minute
and 500 seconds). So every timing line is read here first, is handed on in the one form that both read alike, and must
come back as a cue.
"""

import html
import itertools
import re
from dataclasses import replace
from textwrap import shorten

import srt
import webvtt
from webvtt.errors import MalformedCaptionError, MalformedFileError

from features.reasons import Reason
from pipelines.media.spans import Notice, Span, span
from pipelines.media.transcripts.transcript import Choice, Transcript, bad, decode_text, make_transcript

_CLOCK = r"(?:(\d{1,5}):)?(\d{1,2}):(\d{1,2})[.,](\d{1,9})"
_TIMING = re.compile(rf"\s*{_CLOCK}\s*-->\s*{_CLOCK}(?:\s.*)?")
_NUMBER = re.compile(r"\s*-?[0-9]+\.?[0-9]*\s*")  # what the package srt takes for a cue's number
_INNER = re.compile(rf"<{_CLOCK}>")
_TAG = re.compile(r"</?[A-Za-z][^<>]*>|<\d[\d:.]*>|</?>")  # <i>, </font>, <v Anna>, <00:01.500>; not "a < b"
_OVERRIDE = re.compile(r"\{[^{}]*\}")  # {\an8}, as SubRip and SubStation Alpha have it
_STREAM_CLOCK = re.compile(r"^X-TIMESTAMP-MAP=.*$", re.MULTILINE)
_STRAY_CHARS = 80
_VTT_BLOCKS = ("NOTE", "STYLE", "REGION")


def parse_srt(content: bytes, choice: Choice) -> Transcript:
    """The cues of an SRT file, markup stripped."""
    text, times_ms = _plain_timings(decode_text(content), are_numbered=True)
    try:
        cues = list(srt.parse(text))
    except srt.SRTParseError as error:
        stray = shorten(error.unmatched_content, _STRAY_CHARS, placeholder=" ..")
        raise bad(f"transcript cannot be read as SRT: {stray!r} is of no cue: mend its line 'start --> end'") from error
    except (OverflowError, ValueError) as error:
        # Of a line with another arrow, as "- ->", which the package takes for a timing line, too.
        raise bad(f"transcript cannot be read as SRT: {error}") from error
    found = [cue.content for cue in cues]
    return make_transcript(cues=_cues(found, [cue.start.total_seconds() for cue in cues], times_ms))


def parse_vtt(content: bytes, choice: Choice) -> Transcript:
    """The cues of a WebVTT file, markup stripped; its words, where time stamps inside the cues give each its time."""
    text, times_ms = _plain_timings(decode_text(content).replace("\0", "\ufffd"))
    _check_stray_text(text)
    try:
        captions = webvtt.from_string(text).captions
    except (MalformedFileError, MalformedCaptionError) as error:
        raise bad(f"transcript cannot be read as WebVTT, which begins with a line 'WEBVTT': {error}") from error
    found = [caption.raw_text for caption in captions]
    cues = _cues(found, [caption.start_time.in_milliseconds() / 1000 for caption in captions], times_ms)
    transcript = make_transcript(cues=cues, words=_inner_words(cues, found))
    return replace(transcript, notices=[*_other_clock(text), *transcript.notices])


def _other_clock(text: str) -> list[Notice]:
    """A notice of a piece of a stream, whose header ties its times to the clock of the stream's other pieces."""
    found = _STREAM_CLOCK.search(text.partition("\n\n")[0])
    if found is None or "MPEGTS:0," in found[0] + ",":
        return []
    return [Notice(Reason.SHIFTED, f"WebVTT of a stream, {found[0]!r}: its times are taken as they stand")]


def plain_cue(text: str) -> str:
    """A cue's text without tags, override codes, entities and line breaks."""
    bare = _OVERRIDE.sub("", text.replace(r"\N", " ").replace(r"\n", " ").replace(r"\h", " "))
    return " ".join(html.unescape(_TAG.sub("", bare)).split())


def _plain_timings(text: str, *, are_numbered: bool = False) -> tuple[str, list[tuple[int, int]]]:
    """The file with every timing line as "hh:mm:ss.mmm --> hh:mm:ss.mmm", and the times in them, in milliseconds.

    are_numbered: every cue gets a number: without one, srt takes a number that ends the cue before for it.
    """
    lines = text.split("\n")
    times_ms = []
    for number, line in enumerate(lines):
        if "-->" not in line or line.startswith("NOTE"):
            continue
        match = _TIMING.fullmatch(line)
        if match is None:
            raise bad(f"transcript, line {number + 1}: {line.strip()!r} is no 'hh:mm:ss,mmm --> hh:mm:ss,mmm'")
        fields = match.groups()
        start_ms, end_ms = _milliseconds(*fields[:4]), _milliseconds(*fields[4:])
        has_number = not are_numbered or (number > 0 and _NUMBER.fullmatch(lines[number - 1]))
        lines[number] = ("" if has_number else "0\n") + f"{_clock(start_ms)} --> {_clock(end_ms)}"
        times_ms.append((start_ms, end_ms))
    if not times_ms:
        raise bad(f"transcript of {len(lines)} lines holds no cue ('start --> end')")
    return "\n".join(lines), times_ms


def _milliseconds(hours: str | None, minutes: str, seconds: str, fraction: str) -> int:
    whole_s = int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds)
    return whole_s * 1000 + round(int(fraction) * 1000 / 10 ** len(fraction))


def _clock(time_ms: int) -> str:
    seconds, milliseconds = divmod(time_ms, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{milliseconds:03d}"


def _cues(texts: list[str], starts_s: list[float], times_ms: list[tuple[int, int]]) -> list[Span]:
    """The cues that the package found. Raises MediaError BAD_TRANSCRIPT unless they are those of the timing lines."""
    starts_ms = [round(1000 * start_s) for start_s in starts_s]
    if starts_ms != [start_ms for start_ms, _ in times_ms]:
        first = next((i for i, (a, b) in enumerate(zip(starts_ms, times_ms, strict=False)) if a != b[0]), -1)
        raise bad(
            f"transcript has {len(times_ms)} lines 'start --> end', but {len(starts_ms)} cues can be read: look at "
            f"{_clock(times_ms[first][0])}: a blank line must set off each cue"
        )
    return [
        span(start_ms / 1000, end_ms / 1000, text=plain_cue(text) or None)
        for text, (start_ms, end_ms) in zip(texts, times_ms, strict=True)
    ]


def _check_stray_text(text: str) -> None:
    """Raise MediaError BAD_TRANSCRIPT for a block after the first cue that belongs to none: the rest of a cue with a
    blank line in it, which WebVTT ignores."""
    number, seen_cue = 1, False
    for block in re.split(r"(\n\n+)", text):
        if "-->" in block:
            seen_cue = True
        elif seen_cue and block.strip() and not block.startswith(_VTT_BLOCKS):
            raise bad(
                f"transcript, line {number}: {block.splitlines()[0]!r} after a blank line belongs to no cue: remove "
                "the blank line, or begin it with NOTE"
            )
        number += block.count("\n")


def _inner_words(cues: list[Span], texts: list[str]) -> list[Span]:
    """The words between time stamps inside cues; none unless these tell the time of every word of every cue."""
    if not any(_INNER.search(text) for text in texts):
        return []
    words = []
    for cue, text in zip(cues, texts, strict=True):
        stamps_s = [_milliseconds(*match.groups()) / 1000 for match in _INNER.finditer(text)]
        pieces = [plain_cue(piece) for piece in _INNER.sub("\0", text).split("\0")]
        bounds_s = [cue["start_s"], *stamps_s, cue["end_s"]]
        if any(" " in piece for piece in pieces) or bounds_s != sorted(bounds_s):
            return []
        edges = itertools.pairwise(bounds_s)
        words += [span(*edge, text=piece) for edge, piece in zip(edges, pieces, strict=True) if piece]
    return words
