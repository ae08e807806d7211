"""Intervals in CSV or TSV with a header line, read by the standard library's csv, which knows the line of each row."""

import csv
import io

from pipelines.media.spans import span
from pipelines.media.transcripts.transcript import (
    Choice,
    Transcript,
    bad,
    decode_unicode,
    make_transcript,
    seconds_of,
)

_WHISPER_COLUMNS = ["start", "end", "text"]  # as openai-whisper writes it, in whole milliseconds
_KINDS = ("text", "word", "label")
_SIGNS = {",": "commas", "\t": "tabs"}

Row = dict[str, str | None]


def parse_csv(content: bytes, choice: Choice) -> Transcript:
    """A cue for each row with a text, a word for each with a word, a label for each with a label; times in the columns
    start_s and end_s. Other columns are ignored."""
    return _parse(content, delimiter=",")


def parse_tsv(content: bytes, choice: Choice) -> Transcript:
    """As CSV; or, with the columns start, end and text, the cues that openai-whisper writes, in milliseconds."""
    return _parse(content, delimiter="\t")


def _parse(content: bytes, *, delimiter: str) -> Transcript:
    try:
        text = io.StringIO(decode_unicode(content), newline="")
        rows = csv.DictReader(text, strict=True, delimiter=delimiter)
        columns = list(rows.fieldnames or [])
        is_whisper = delimiter == "\t" and columns == _WHISPER_COLUMNS
        if len(columns) > len(set(columns)):
            raise bad(f"intervals have two columns of one name, among {', '.join(columns)}: rename one")
        kinds = [kind for kind in _KINDS if kind in columns]
        missing = [] if is_whisper else [name for name in ("start_s", "end_s") if name not in columns]
        missing += [] if kinds else [" or ".join(_KINDS)]
        if missing:
            cure = f": set columns apart by {_SIGNS[delimiter]}" if len(columns) == 1 else ""
            raise bad(f"intervals have columns {columns}; {missing} are missing{cure}")
        read = _whisper_times if is_whisper else _times
        timed = [(row, rows.line_num, read(row, rows.line_num)) for row in rows]
    except (UnicodeDecodeError, csv.Error) as error:
        raise bad(f"intervals are no CSV in UTF-8: {error}") from error
    for row, number, times in timed:
        _check_row(row, number, times, kinds)
    return make_transcript(
        cues=[span(*times, text=_cell(row, "text")) for row, _, times in timed if _is_cue(row, kinds)],
        words=[span(*times, text=_cell(row, "word")) for row, _, times in timed if _cell(row, "word")],
        labels=[span(*times, label=_cell(row, "label")) for row, _, times in timed if _cell(row, "label")],
    )


def _is_cue(row: Row, kinds: list[str]) -> bool:
    """Whether the row has a text, or is an interval of a transcript in which nothing is said."""
    return "text" in kinds and (_cell(row, "text") is not None or not any(_cell(row, kind) for kind in kinds))


def _check_row(row: Row, number: int, times: tuple[float, float], kinds: list[str]) -> None:
    """Raise MediaError BAD_TRANSCRIPT for a row that says nothing of its interval, or has cells beyond the header."""
    start_s, end_s = times
    if None in row:
        raise bad(f"intervals, row {number}: it has more cells than the header has columns")
    if "text" not in kinds and not any(_cell(row, kind) for kind in kinds):
        raise bad(f"intervals, row {number}, column {' or '.join(kinds)}: it is empty")
    if _cell(row, "label") and end_s <= start_s:
        raise bad(f"intervals, row {number}: end_s {end_s:g} must be after start_s {start_s:g}")


def _cell(row: Row, column: str) -> str | None:
    return " ".join((row.get(column) or "").split()) or None


def _times(row: Row, number: int) -> tuple[float, float]:
    return (
        seconds_of(row["start_s"], f"intervals, row {number}, column start_s"),
        seconds_of(row["end_s"], f"intervals, row {number}, column end_s"),
    )


def _whisper_times(row: Row, number: int) -> tuple[float, float]:
    if not all((row[name] or "").isdecimal() for name in ("start", "end")):
        text = "start and end without a unit must be whole milliseconds, as whisper writes them; of seconds, call the"
        raise bad(f"intervals, row {number}: {text} columns start_s and end_s")
    return (
        seconds_of(row["start"], f"intervals, row {number}, column start") / 1000,
        seconds_of(row["end"], f"intervals, row {number}, column end") / 1000,
    )
