"""A manifest: a CSV, JSONL or Parquet table with one row a sample."""

import difflib
import io
import json
import math
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from features.errors import ConfigError, SourceError
from features.reasons import Reason
from pipelines.job import Reject
from pipelines.raw import COLUMNS, FILE_COLUMNS, RawSample, file_ref

SUFFIXES = (".csv", ".jsonl", ".parquet")


def list_table(
    source: str, content: bytes, folder: str, columns: dict[str, str]
) -> tuple[list[RawSample], list[Reject]]:
    """The samples of a manifest. folder: what relative paths start from. columns: our name -> the manifest's name.

    A cell that cannot be used makes its row a reject naming row, column and cure; other columns are kept as meta.
    """
    rows = _read_rows(source, content)
    names = _column_names(source, _all_columns(rows), columns)
    samples: list[RawSample] = []
    rejects: list[Reject] = []
    for number, row in enumerate(rows, start=1):
        taken = _take_row(row, names, folder, f"{source}, row {number}")
        (rejects if isinstance(taken, Reject) else samples).append(taken)  # type: ignore[arg-type]
    return samples, rejects


def _read_rows(source: str, content: bytes) -> list[dict[str, Any]]:
    suffix = PurePosixPath(source).suffix.lower()
    try:
        if suffix == ".parquet":
            return list(pq.read_table(io.BytesIO(content)).to_pylist())
        if suffix == ".jsonl":
            return [json.loads(line) for line in content.decode("utf-8-sig").splitlines() if line.strip()]
        return _read_csv(content)
    except (pa.ArrowInvalid, ValueError) as error:
        raise SourceError(f"{source} is no readable {suffix[1:]} table ({error}): mend or convert it") from error


def _read_csv(content: bytes) -> list[dict[str, Any]]:
    """Every cell as the string it is ("007" stays a key), an empty one as null."""
    header = pa_csv.open_csv(io.BytesIO(content)).schema.names
    convert = pa_csv.ConvertOptions(
        column_types={name: pa.string() for name in header}, strings_can_be_null=True, null_values=[""]
    )
    parse = pa_csv.ParseOptions(newlines_in_values=True)
    return list(pa_csv.read_csv(io.BytesIO(content), parse_options=parse, convert_options=convert).to_pylist())


def _all_columns(rows: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


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
        setattr(sample, column, None if cells.get(column) is None else str(cells[column]))
    for column in ("start_s", "end_s"):
        value = cells.get(column)
        try:
            setattr(sample, column, None if value is None else _seconds(value))
        except ValueError:
            text = f"{where}, column {names[column]!r}: {value!r} is no time in seconds: write it as a number"
            return Reject(sample.key, "ingest", Reason.BAD_INTERVAL, "sample", text)
    for column in FILE_COLUMNS:
        if cells.get(column) is not None:
            sample.files[column] = file_ref(_join(folder, str(cells[column])))
    sample.meta = {name: value for name, value in row.items() if name not in names.values() and value is not None}
    return sample


def _seconds(value: Any) -> float:
    seconds = float(value)
    if not math.isfinite(seconds):
        raise ValueError(f"{value} is not finite")
    return seconds


def _join(folder: str, path: str) -> str:
    return path if "://" in path or path.startswith("/") else f"{folder.rstrip('/')}/{path}"
