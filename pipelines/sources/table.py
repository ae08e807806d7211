"""A manifest: a CSV, JSONL or Parquet table with one row a sample."""

import difflib
import io
import json
import math
import posixpath
import reprlib
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from features.errors import ConfigError, SourceError
from features.reasons import Reason
from pipelines.job import Reject
from pipelines.raw import COLUMNS, FILE_COLUMNS, RawSample, file_ref, is_text
from pipelines.sources.names import seconds_of

SUFFIXES = (".csv", ".jsonl", ".parquet")


def list_table(
    source: str, content: bytes, folder: str, columns: dict[str, str]
) -> tuple[list[RawSample], list[Reject]]:
    """The samples of a manifest. folder: what relative paths start from. columns: our name -> the manifest's name.

    A cell that cannot be used makes its row a reject naming row, column and cure; other columns are kept as meta.
    """
    rows, present = _read_rows(source, content)
    names = _column_names(source, present, columns)
    samples: list[RawSample] = []
    rejects: list[Reject] = []
    for number, row in enumerate(rows, start=1):
        taken = _take_row(row, names, folder, f"{source}, row {number}")
        if isinstance(taken, Reject):
            rejects.append(taken)
        else:
            samples.append(taken)
    return samples, rejects


def _read_rows(source: str, content: bytes) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows with their absent cells as null, and the names of the columns."""
    suffix = PurePosixPath(source).suffix.lower()
    try:
        if suffix == ".jsonl":
            rows = _read_jsonl(content)
            names = list(dict.fromkeys(name for row in rows for name in row))
        else:
            table = pq.read_table(io.BytesIO(content)) if suffix == ".parquet" else _read_csv(content)
            rows, names = table.to_pylist(), table.column_names
    except (pa.ArrowException, ValueError) as error:
        raise SourceError(f"{source} is no readable {suffix[1:]} table ({error}): mend or convert it") from error
    if len(names) > len(set(names)):
        raise SourceError(f"{source} has two columns of one name, among {', '.join(names)}: rename one")
    return [{name: _cell(value) for name, value in row.items()} for row in rows], names


def _cell(value: Any) -> Any:
    """A cell's value, where other tools write NaN for a missing one, and text as bytes."""
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value
    return value


def _read_jsonl(content: bytes) -> list[dict[str, Any]]:
    """One object a line; lines end at newlines alone, since a JSON string may hold other separators as they are."""
    lines = content.decode("utf-8-sig").split("\n")
    return [_read_object(line, number) for number, line in enumerate(lines, start=1) if line.strip()]


def _read_object(line: str, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ValueError(f"line {number}: {error}") from error
    if not isinstance(row, dict):
        raise ValueError(f"line {number} is a {type(row).__name__}, not an object")
    return row


def _read_csv(content: bytes) -> pa.Table:
    """Every cell as the string it is ("007" stays a key), an empty one as null."""
    parse = pa_csv.ParseOptions(newlines_in_values=True)
    read = pa_csv.ReadOptions(block_size=len(content) + 1)  # no cell is too long
    header = pa_csv.open_csv(io.BytesIO(content), read_options=read, parse_options=parse).schema.names
    convert = pa_csv.ConvertOptions(
        column_types={name: pa.string() for name in header}, strings_can_be_null=True, null_values=[""]
    )
    return pa_csv.read_csv(io.BytesIO(content), read_options=read, parse_options=parse, convert_options=convert)


def _column_names(source: str, present: list[str], columns: dict[str, str]) -> dict[str, str]:
    """Our column names -> the manifest's, for those that it has."""
    for ours, theirs in columns.items():
        if ours not in COLUMNS:
            near = difflib.get_close_matches(ours, COLUMNS, n=1, cutoff=0)[0]
            raise ConfigError(f"ingest.columns: {ours!r} is no column of a sample; did you mean {near!r}?")
        if theirs not in present:
            near = (difflib.get_close_matches(theirs, present, n=1, cutoff=0) or ["none"])[0]
            raise SourceError(
                f"{source} has no column {theirs!r}, which ingest.columns names for {ours!r}; the nearest is {near!r}. "
                f"It has: {', '.join(present)}"
            )
    names = {ours: columns.get(ours, ours) for ours in COLUMNS if columns.get(ours, ours) in present}
    if "key" not in names:
        raise SourceError(
            f"{source} has no column 'key': add one, or name yours in ingest.columns. It has: {', '.join(present)}"
        )
    if not any(column in names for column in ("text", "image", "audio", "video")):
        raise SourceError(
            f"{source} has no column text, image, audio or video: name yours in ingest.columns. "
            f"It has: {', '.join(present)}"
        )
    return names


def _take_row(row: dict[str, Any], names: dict[str, str], folder: str, where: str) -> RawSample | Reject:
    cells = {ours: row.get(theirs) for ours, theirs in names.items()}
    if cells["key"] is None:
        raise SourceError(f"{where}, column {names['key']!r}: the key is empty: every row needs one")
    sample = RawSample(key=str(cells["key"]), where=where)
    for column in ("text", "label", "group", "split"):
        value = cells.get(column)
        if isinstance(value, dict | list | bytes):
            text = f"{where}, column {names[column]!r}: {reprlib.repr(value)} must be a string or a number"
            return Reject(sample.key, "ingest", Reason.UNDECODABLE, "sample", text)
        setattr(sample, column, None if value is None else str(value))
    for column in ("start_s", "end_s"):
        value = cells.get(column)
        try:
            setattr(sample, column, None if value is None else seconds_of(value))
        except ValueError:
            text = f"{where}, column {names[column]!r}: {value!r} is no time in seconds: write it as a number"
            return Reject(sample.key, "ingest", Reason.BAD_INTERVAL, "sample", text)
    for column in FILE_COLUMNS:
        path = cells.get(column)
        if path is None:
            continue
        if not isinstance(path, str) or not is_text(path):
            text = f"{where}, column {names[column]!r}: {reprlib.repr(path)} is no path: name a file or a URL"
            return Reject(sample.key, "ingest", Reason.MISSING_FILE, "sample", text)
        sample.files[column] = file_ref(_join(folder, path))
    media = cells.get("video") or cells.get("audio")
    sample.recording = posixpath.splitext(media)[0] if media else None
    sample.meta = {name: value for name, value in row.items() if name not in names.values() and value is not None}
    return sample


def _join(folder: str, path: str) -> str:
    return path if "://" in path or path.startswith("/") else f"{folder.rstrip('/')}/{path}"
