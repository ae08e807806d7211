"""The command that shows views on one time base."""

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from features.aligned import Aligned
from features.aligning import WORD
from features.alignment import HOWS, How
from features.errors import ConfigError, nearest
from flows.options import JsonOption, RevOption, StoreOption, open_store
from flows.tables import print_json_rows, print_table


def add_timeline(app: typer.Typer) -> None:
    """Add the command timeline."""
    app.command("timeline")(timeline)


def timeline(
    keys: Annotated[list[str], typer.Argument(metavar="KEY...", help="Keys of samples.")],
    view: Annotated[list[str] | None, typer.Option("--view", help="A view; repeatable. All of them if none.")] = None,
    to: Annotated[str, typer.Option("--to", help="word, segment, a view of sequences, or a rate in hertz.")] = "word",
    how: Annotated[str, typer.Option("--how", help=f"One of {', '.join(HOWS)}.")] = "mean",
    store: StoreOption = Path(),
    rev: RevOption = None,
    json: JsonOption = False,
) -> None:
    """Print samples on one time base, an interval a row with the vector of each view; null is what nothing covers."""
    if how not in HOWS:
        raise ConfigError(f"--how {how!r} is none of {', '.join(HOWS)}{nearest(how, HOWS)}")
    opened = open_store(store, rev)
    rows = list(_rows(opened.align(keys, view or list(opened.views), to=_time_base(to), how=cast(How, how))))
    if json:
        print_json_rows(rows)
    else:
        print_table(list(rows[0]) if rows else ["key"], (list(row.values()) for row in rows))
    if not rows:
        what = "words whose times are known" if to == WORD else f"intervals of {to}"
        sys.stderr.write(f"plait: these samples have no {what}: choose another --to\n")


def _time_base(text: str) -> str | float:
    try:
        rate_hz = float(text)
    except ValueError:
        return text
    if not 0 < rate_hz < math.inf:
        raise ConfigError(f"--to {text} is a rate in hertz, which must be above 0")
    return rate_hz


def _rows(aligned: Aligned) -> Iterator[dict[str, Any]]:
    """One a target, from the lists of its key's row."""
    for row in aligned.to_arrow().to_pylist():
        key = row.pop("key")
        for target in zip(*row.values(), strict=True):
            yield {"key": key, **dict(zip(row, target, strict=True))}
