"""What a file of any format is read into, and the rules that hold for all formats."""

import codecs
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from features.reasons import MediaError, Reason
from pipelines.media.spans import Notice, Span, by_time

# How annotators and aligners write a stretch in which nobody speaks, or nobody knows what.
_NO_WORDS = frozenset({"", "sil", "sp", "spn", "<eps>", "<sil>", "!sil", "<unk>", "<p:>"})


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What of a file is wanted.

    recording: the key of the recording, for files that tell of several. The tiers are the names, or patterns as
    "*@anna", of tiers of a TextGrid or an ELAN file, whatever their case; None: what docs/alignment.md says.
    """

    recording: str = ""
    text_tier: str | None = None
    word_tier: str | None = None
    label_tier: str | None = None


@dataclass(frozen=True)
class Transcript:
    """What a file says of a recording's timeline, each in order of time: cues (what is said, None for a cue without
    words), words with times of their own, labelled intervals; and what is odd about it."""

    cues: list[Span]
    words: list[Span]
    labels: list[Span]
    notices: list[Notice]


def make_transcript(
    *, cues: Sequence[Span] = (), words: Sequence[Span] = (), labels: Sequence[Span] = (), untimed: Sequence[str] = ()
) -> Transcript:
    """A transcript of spans in the file's order. untimed: words that the file holds without times.

    A cue that ends before it starts stays, so that the segment it would be is rejected on its own; such a word is left
    out. Raises MediaError BAD_TRANSCRIPT for such a label: an interval that is empty would be lost without a word.
    """
    for label in labels:
        if label["end_s"] <= label["start_s"]:
            raise bad(f"label {label['label']!r} at {label['start_s']:g} s must end after that, not {label['end_s']:g}")
    notices = [*_disorder("cues", cues), *_disorder("words", words)]
    backward = [word for word in words if word["end_s"] < word["start_s"]]
    num_words = len(words) + len(untimed)
    if backward:
        text = f"{len(backward)} of {num_words} words end before they start and are left out, first "
        text += f"{backward[0]['text']!r} at {backward[0]['start_s']:g} to {backward[0]['end_s']:g} s"
        notices.append(Notice(Reason.BAD_INTERVAL, text, "part"))
    if untimed:
        text = f"{len(untimed)} of {num_words} words have no time and stand in the text alone, first {untimed[0]!r}"
        notices.append(Notice(Reason.BAD_INTERVAL, text, "part"))
    kept = [word for word in words if word["end_s"] >= word["start_s"]]
    return Transcript(by_time(list(cues)), by_time(kept), by_time(list(labels)), notices)


def _disorder(kind: str, spans: Sequence[Span]) -> list[Notice]:
    """A notice of spans that start before the one that the file has before them. Files are merged and edited by hand:
    times, not places in the file, say what comes first."""
    late = [after for before, after in itertools.pairwise(spans) if after["start_s"] < before["start_s"]]
    if not late:
        return []
    text = f"{len(late)} of {len(spans)} {kind} start before the one above them in the file, first at "
    return [Notice(Reason.OUT_OF_ORDER, f"{text}{late[0]['start_s']:g} s: they are sorted by time")]


def bad(text: str) -> MediaError:
    """The error of a file that cannot be taken for what it says it is."""
    return MediaError(Reason.BAD_TRANSCRIPT, text)


def spoken(text: str) -> str | None:
    """The words of an annotation on one line; None if it marks silence."""
    line = " ".join(text.split())
    return None if line.lower() in _NO_WORDS else line


def seconds_of(value: Any, where: str) -> float:
    """A time in seconds. where: its place in the file. Raises MediaError BAD_TRANSCRIPT unless it is a finite number
    that is not negative: times count from the recording's beginning."""
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        raise bad(f"{where}: {value!r} is no number of seconds from 0 on")
    return seconds + 0.0  # no minus zero


def decode_text(content: bytes) -> str:
    """A text whose encoding nothing tells: UTF-8 or, with its mark, UTF-16; what is neither is Windows-1252. Lines end
    in newlines. Raises MediaError BAD_TRANSCRIPT if it is none of these."""
    try:
        text = decode_unicode(content)
    except UnicodeDecodeError:
        try:
            text = content.decode("cp1252")
        except UnicodeDecodeError as error:
            raise bad(f"transcript is neither UTF-8 nor Windows-1252: {error}") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def decode_unicode(content: bytes) -> str:
    """A text in UTF-8 or, with its mark, UTF-16. Raises UnicodeDecodeError."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16")
    return content.decode("utf-8-sig")
