"""The command that finds nearest neighbours."""

from pathlib import Path
from typing import Annotated, Any

import typer

import features
from features.errors import QueryError
from flows.options import JsonOption, RevOption, StoreOption, open_store
from flows.tables import print_json, print_table


def add_nearest(app: typer.Typer) -> None:
    """Add the command nearest."""
    app.command("nearest")(nearest)


def nearest(
    view: Annotated[str, typer.Argument(help="Name of a view with one vector a sample.")],
    key: Annotated[list[str] | None, typer.Option("--key", help="Ask with a sample of the store; repeatable.")] = None,
    text: Annotated[str | None, typer.Option("--text", help="Ask with a text, where the encoder takes text.")] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="Ask with a file of text, image, audio or video, cleaned like others.")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many neighbours.")] = 10,
    where: Annotated[
        str | None, typer.Option("--where", help="Only samples for which this SQL condition holds.")
    ] = None,
    split: Annotated[str | None, typer.Option("--split", help="Only samples of this split.")] = None,
    approximate: Annotated[
        bool | None,
        typer.Option("--approximate/--exact", help="With an index, or by looking at all; by default as size asks."),
    ] = None,
    store: StoreOption = Path(),
    rev: RevOption = None,
    json: JsonOption = False,
) -> None:
    """Find the samples whose embeddings are nearest by cosine to a sample, a text or a file."""
    if sum(asked is not None for asked in (key or None, text, file)) != 1:
        raise QueryError("ask with one of --key, --text and --file")
    opened = open_store(store, rev)
    query = text if file is None else _read(opened, view, file)
    keys = key[0] if key and len(key) == 1 else key or None
    found = opened.nearest(view, query, keys=keys, k=k, where=where, split=split, approximate=approximate)
    about = {name.decode(): value.decode() for name, value in found.schema.metadata.items()}
    if json:
        print_json({**about, "neighbours": found.to_pylist()})
    else:
        print_table(found.column_names, (list(row.values()) for row in found.to_pylist()), title=_title(about))


def _read(store: features.Store, view: str, file: Path) -> Any:
    from flows.query_file import read_query

    return read_query(file, store.reader.pooled_view(view).input, store.manifest.steps)


def _title(about: dict[str, str]) -> str:
    title = f"Nearest in {about['view']} by {about['metric']}, {about['method']}"
    if "recall_at_10" in about:
        title += f": recall@10 {about['recall_at_10']} on {about['recall_queries']} of its own embeddings"
    return title
