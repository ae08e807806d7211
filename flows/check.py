"""The command that verifies a store."""

import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import typer

from features.check import check
from features.check_rows import Problem
from flows.options import JsonOption, RevOption, StoreOption, open_store
from flows.tables import print_json_rows, visible


def add_check(app: typer.Typer) -> None:
    """Add the command check."""
    app.command("check")(_check)


def _check(store: StoreOption = Path(), rev: RevOption = None, json: JsonOption = False) -> None:
    """Verify a whole store: digests, order, counts, joins and values. Exit status 1 if anything is wrong."""
    opened = open_store(store, rev)
    num_problems = 0

    def counted() -> Iterator[Problem]:
        nonlocal num_problems
        for problem in check(opened):
            num_problems += 1
            yield problem

    if json:
        print_json_rows(map(asdict, counted()))
    else:
        for problem in counted():
            sys.stdout.write(f"{visible(str(problem))}\n")
        kept = f"{len(opened)} samples in {len(opened.manifest.shards)} shards, {len(opened.views)} views"
        sys.stdout.write(f"{opened.folder}: {kept}, {num_problems or 'no'} problems\n")
    if num_problems:
        raise typer.Exit(1)
