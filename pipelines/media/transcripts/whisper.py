"""Whisper's JSON, as openai-whisper, whisperX, faster-whisper and the OpenAI API write it, read by json."""

import json
from collections.abc import Sequence
from typing import Any

from pipelines.media.spans import Span, span
from pipelines.media.transcripts.transcript import (
    Choice,
    Transcript,
    bad,
    decode_unicode,
    make_transcript,
    seconds_of,
    spoken,
)


def parse_whisper(content: bytes, choice: Choice) -> Transcript:
    """A cue for each segment; the words of all segments, or else those beside the segments.

    The file is an object with segments, or the list of them; a segment has start, end and text and may have words,
    a word has word (or text), start and end. Other fields are ignored. Words without segments, as the OpenAI API gives
    where it is asked for words alone, are words without cues.
    """
    try:
        found = json.loads(decode_unicode(content))
    except (ValueError, RecursionError) as error:
        raise bad(f"it is no JSON in UTF-8: {error}") from error
    segments, beside = (found.get("segments"), found.get("words")) if isinstance(found, dict) else (found, None)
    if segments is None and beside:
        segments = []
    cues, inner = [], []
    for number, segment in enumerate(_objects(segments, "segments")):
        where = f"segments[{number}]"
        cues.append(_span(segment, ("text",), where))
        inner += [
            (one, f"{where}.words[{index}]")
            for index, one in enumerate(_objects(segment.get("words") or [], f"{where}.words"))
        ]
    inner = inner or [(one, f"words[{index}]") for index, one in enumerate(_objects(beside or [], "words"))]
    words, untimed = [], []
    for one, where in inner:
        if one.get("start") is None or one.get("end") is None:  # whisperX cannot place numbers, for one
            untimed.append(_text(one, ("word", "text"), where))
        else:
            words.append(_span(one, ("word", "text"), where))
    return make_transcript(
        cues=cues,
        words=[word for word in words if word["text"]],
        untimed=[text for text in untimed if text],
    )


def is_whisper(found: Any) -> bool:
    """Whether a JSON value is such a transcript, by its shape: segments that all have start, end and text, or without
    segments words that all have word, start and end."""
    segments, words = (found.get("segments"), found.get("words")) if isinstance(found, dict) else (found, None)
    if segments is None and words:
        return _all_have({"start", "end", "word"}, words)
    return _all_have({"start", "end", "text"}, segments)


def _all_have(names: set[str], found: Any) -> bool:
    return isinstance(found, list) and all(isinstance(one, dict) and names <= one.keys() for one in found)


def _objects(found: Any, where: str) -> list[dict[str, Any]]:
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise bad(f"JSON of another shape: {where} must be a list of objects, as whisper writes it")
    return found


def _span(found: dict[str, Any], names: Sequence[str], where: str) -> Span:
    start_s, end_s = (seconds_of(found.get(name), f"{where}.{name}") for name in ("start", "end"))
    return span(start_s, end_s, text=_text(found, names, where))


def _text(found: dict[str, Any], names: Sequence[str], where: str) -> str | None:
    text = next((found[name] for name in names if name in found), None)
    if not isinstance(text, str) or any("\ud800" <= char <= "\udfff" for char in text):
        raise bad(f"{where}.{names[0]}: {text!r} is no text".encode(errors="backslashreplace").decode())
    return spoken(text)
