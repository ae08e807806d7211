"""What commands print: tables for people, JSON for machines."""

import itertools
import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

_PAGE_ROWS = 200  # rich needs all rows of a table before the first is shown, and a second for 500 of them
_SHOWN_NUMBERS = 4
# A terminal acts on C0, DEL and C1; the Unicode separators break lines as \n does, and the rest turns their direction.
_UNSEEN = (*range(0x20), *range(0x7F, 0xA0), *range(0x2028, 0x202F), *range(0x2066, 0x206A))
_ESCAPES = {code: ascii(chr(code))[1:-1] for code in _UNSEEN}


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None) -> None:
    """Print a table; a terminal gets rich pages with long cells folded, a pipe aligned text with a row a line.

    Nothing is cut off but the numbers of long vectors. A row may be shorter than columns.
    """
    title = title and visible(title)
    if sys.stdout.isatty():
        _print_pages(columns, iter(rows), title)
    else:
        _print_plain(columns, rows, title)
    if title:
        sys.stdout.write("\n")


def _print_pages(columns: Sequence[str], rows: Iterator[Sequence[Any]], title: str | None) -> None:
    console = Console()
    page = list(itertools.islice(rows, _PAGE_ROWS))
    while True:
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for column in columns:
            table.add_column(Text(visible(column)), overflow="fold")
        for row in page:
            table.add_row(*(Text(_cell(value), justify="right" if _is_number(value) else "left") for value in row))
        console.print(table)
        page = list(itertools.islice(rows, _PAGE_ROWS))
        if not page:
            return


def _print_plain(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str | None) -> None:
    lines = [[(visible(column), False) for column in columns]]
    lines += [[(_cell(value), _is_number(value)) for value in row] for row in rows]
    widths = [max(len(line[place][0]) for line in lines if place < len(line)) for place in range(len(columns))]
    if title:
        sys.stdout.write(f"{title}\n")
    for line in lines:
        cells = zip(line, widths, strict=False)
        padded = (text.rjust(width) if number else text.ljust(width) for (text, number), width in cells)
        sys.stdout.write("  ".join(padded).rstrip() + "\n")


def visible(text: str) -> str:
    """The text with escapes, as \\x1b, for what a terminal would obey and not show."""
    return text.translate(_ESCAPES)


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
    return visible(_text(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
