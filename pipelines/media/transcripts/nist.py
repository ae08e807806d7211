"""CTM and RTTM: lines of fields set apart by white space, without quotes or escapes, as NIST laid them down.

To split a line at white space is all there is to read, so no package is asked: those that read these files split in the
same way, and do not tell a line whose fields are too few or too many, or bring a deep-learning toolkit along.
"""

from collections.abc import Iterator, Sequence

from pipelines.media.spans import Span, by_time, span
from pipelines.media.transcripts.transcript import (
    Choice,
    Transcript,
    bad,
    decode_unicode,
    make_transcript,
    seconds_of,
    spoken,
)

_CTM_FIELDS = (5, 6, 7, 8)  # file, channel, start, length, word; then confidence, kind and speaker
_RTTM_FIELDS = (9, 10)  # kind, file, channel, start, length, spelling, subtype, name, confidence; then lookahead
_RTTM_KINDS = (  # of which SPEAKER alone is taken
    *("SEGMENT", "NOSCORE", "NO_RT_METADATA", "LEXEME", "NON-LEX", "NON-SPEECH", "FILLER", "EDIT", "IP", "SU", "CB"),
    *("A/P", "SPEAKER", "SPKR-INFO"),
)
_MARKS = ("<ALT", "<ALT_BEGIN>", "<ALT_END>")

Line = tuple[int, list[str]]
"""A line's number and its fields."""


def parse_ctm(content: bytes, choice: Choice) -> Transcript:
    """The words of this recording in a CTM file, of all its channels; marks of silence are no words."""
    lines = list(_lines(content))
    for number, fields in lines:
        if len(fields) not in _CTM_FIELDS:
            raise bad(f"CTM, line {number}: it has {len(fields)} fields, not 5 or 6 (file channel start length word)")
        if fields[4].startswith(_MARKS):
            raise bad(f"CTM, line {number}: it offers alternatives ({fields[4]}): keep one of them")
    mine = _of_recording([(number, fields, fields[0]) for number, fields in lines], choice, "CTM")
    words = [
        _span(fields[2], fields[3], f"CTM, line {number}") | {"text": spoken(fields[4])} for number, fields in mine
    ]
    channels = {fields[1] for _, fields in mine}
    spoken_words = [word for word in words if word["text"]]
    return make_transcript(words=spoken_words if len(channels) == 1 else by_time(spoken_words))


def parse_rttm(content: bytes, choice: Choice) -> Transcript:
    """The speaker turns of this recording in an RTTM file, as labels."""
    lines = list(_lines(content))
    for number, fields in lines:
        if fields[0] not in _RTTM_KINDS:
            raise bad(f"RTTM, line {number}: {fields[0]!r} is no kind of line that RTTM has, such as SPEAKER")
        if len(fields) not in _RTTM_FIELDS:
            raise bad(f"RTTM, line {number}: it has {len(fields)} fields, not 9 or 10")
    turns = [(number, fields, fields[1]) for number, fields in lines if fields[0] == "SPEAKER"]
    mine = _of_recording(turns, choice, "RTTM")
    return make_transcript(
        labels=[_span(fields[3], fields[4], f"RTTM, line {number}") | {"label": fields[7]} for number, fields in mine]
    )


def _lines(content: bytes) -> Iterator[Line]:
    """The lines that are no comments."""
    try:
        text = decode_unicode(content)
    except UnicodeDecodeError as error:
        raise bad(f"it is no text in UTF-8: {error}") from error
    for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), start=1):
        if line.strip() and not line.startswith(";;"):
            yield number, line.split()


def _of_recording(lines: Sequence[tuple[int, list[str], str]], choice: Choice, kind: str) -> list[Line]:
    """The lines whose file is this recording: any, where the file tells of one alone; else the one with the
    recording's key, or with the last part of it. Raises MediaError BAD_TRANSCRIPT if there is none."""
    files = sorted({file for _, _, file in lines})
    if not files:
        raise bad(f"{kind} file holds no {'word' if kind == 'CTM' else 'SPEAKER line'}")
    wanted = files
    if len(files) > 1:
        names = (choice.recording, choice.recording.rpartition("/")[2])
        wanted = [name for name in names if name in files][:1]
    if not wanted:
        listed = ", ".join(files[:5]) + (f" and {len(files) - 5} more" if len(files) > 5 else "")
        raise bad(f"{kind} file tells of {len(files)} recordings ({listed}), none called {choice.recording!r}")
    return [(number, fields) for number, fields, file in lines if file == wanted[0]]


def _span(start: str, length: str, where: str) -> Span:
    start_s = seconds_of(start, where)
    return span(start_s, round(start_s + seconds_of(length, where), 6))
