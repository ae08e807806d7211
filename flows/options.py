"""Options that many commands share, and the store that they name."""

from pathlib import Path
from typing import Annotated

import typer

import features

StoreOption = Annotated[Path, typer.Option("--store", help="A feature store, or a project that has data/features.")]
RevOption = Annotated[
    str | None, typer.Option("--rev", help="A git revision of the project: ask the store as it was there.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def open_store(store: Path, rev: str | None) -> features.Store:
    """The store that --store and --rev name."""
    return features.open(store, rev=rev)
