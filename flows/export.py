"""The command that writes samples and views in the formats of other tools."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from features.errors import ConfigError
from features.exports import FORMATS
from flows.options import JsonOption, RevOption, StoreOption, open_store
from flows.tables import print_json


def add_export(app: typer.Typer) -> None:
    """Add the command export."""
    app.command("export")(_export)


def _export(
    format: Annotated[str, typer.Argument(help=f"One of {', '.join(FORMATS)}.")],  # noqa: A002  # its name in the help
    path: Annotated[Path, typer.Argument(help="The file or folder to make; it must not exist.")],
    view: Annotated[list[str] | None, typer.Option("--view", help="A view; repeatable. All of them if none.")] = None,
    split: Annotated[str | None, typer.Option("--split", help="Only samples of this split.")] = None,
    where: Annotated[
        str | None, typer.Option("--where", help="Only samples for which this SQL condition holds.")
    ] = None,
    time: Annotated[
        str | None,
        typer.Option(
            "--time", help="Feast: since when the values hold, as 2026-01-31T12:00:00+00:00. Always if unsaid."
        ),
    ] = None,
    store: StoreOption = Path(),
    rev: RevOption = None,
    json: JsonOption = False,
) -> None:
    """Write samples with their embeddings as Parquet, a Lance or Hugging Face dataset, or a Feast repository."""
    since = None if time is None else _time(time)
    opened = open_store(store, rev)
    num_samples = opened.export(format, path, views=view, split=split, where=where, time=since)
    if json:
        print_json({"path": str(path), "format": format, "samples": num_samples, "views": view or list(opened.views)})
    else:
        typer.echo(f"{num_samples} samples with {', '.join(view or opened.views)} are in {path}")


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"--time {text!r} is no time: write it as 2026-01-31T12:00:00+00:00") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
