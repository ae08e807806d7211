"""What commands print: tables for people, JSON for machines."""

import json
import math
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

_PIPED_COLUMNS = 100_000  # a pipe has no width: nothing is wrapped or cut
_SHOWN_NUMBERS = 4


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None, note: str = ""
) -> None:
    """Print a table; on a terminal long cells are folded, elsewhere a row is a line, and nothing is ever cut off."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(Text(column), overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(value), justify=_justify(value)) for value in row))
    console = Console(width=None if sys.stdout.isatty() else _PIPED_COLUMNS)
    console.print(table)
    if note:
        console.print(Text(note))


def print_json(content: Any) -> None:
    """Print one JSON document; NaN and infinity, which JSON lacks, become null."""
    sys.stdout.write(to_json(content, indent=1) + "\n")


def print_json_rows(rows: Iterable[dict[str, Any]]) -> None:
    """Print a JSON list of objects, one a line."""
    separator = "[\n"
    for row in rows:
        sys.stdout.write(separator + to_json(row))
        separator = ",\n"
    sys.stdout.write("[]\n" if separator == "[\n" else "\n]\n")


def to_json(content: Any, indent: int | None = None) -> str:
    """JSON text; bytes become hex, and what JSON does not know its own text."""
    try:
        return json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False, default=_text)
    except ValueError:  # a NaN is rare, so it is looked for only when there is one
        return json.dumps(_without_nan(content), indent=indent, ensure_ascii=False, default=_text)


def _without_nan(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _without_nan(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_without_nan(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def _text(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        shown = ", ".join(_cell(entry) for entry in value[:_SHOWN_NUMBERS])
        return f"[{shown}]" if len(value) <= _SHOWN_NUMBERS else f"[{shown}, and {len(value) - _SHOWN_NUMBERS} more]"
    return _text(value)


def _justify(value: Any) -> Any:
    return "right" if isinstance(value, int | float) and not isinstance(value, bool) else "left"
