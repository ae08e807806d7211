"""The plait command."""

import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

import features
from features.errors import PlaitError
from features.view import StoredView
from flows.check import add_check
from flows.commands import add_commands
from flows.coverage import add_coverage
from flows.encoders import add_encoders
from flows.export import add_export
from flows.nearest import add_nearest
from flows.options import JsonOption, RevOption, StoreOption, open_store
from flows.plan import add_plan
from flows.precision import add_precision
from flows.publish import add_publish
from flows.stats import add_stats
from flows.tables import print_json, print_json_rows, print_table, visible
from flows.timeline import add_timeline
from flows.versions import add_versions

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Multimodal features: made by stages, kept in a store, asked by SQL or by key.",
)

add_commands(app)
add_plan(app)
add_check(app)
add_stats(app)
add_export(app)
add_coverage(app)
add_nearest(app)
add_timeline(app)
add_versions(app)
add_publish(app)
add_precision(app)
add_encoders(app)

_SUMMARY = ("name", "made_from", "encoder", "pooling", "dtype", "shape", "present", "rev")


def main() -> None:
    """Run the command; an error that a user can cause is one line on stderr and exit status 1."""
    logging.basicConfig(level=logging.ERROR)  # Beam warns of optional parts that nobody asked for
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has seen enough
        _drop_output()
        sys.exit(1)
    except PlaitError as error:
        _fail(str(error))
    except OSError as error:
        if error.filename is None:
            _drop_output()
        _fail(f"{error.strerror or error}: {error.filename or 'standard output'}")


def _fail(message: str) -> NoReturn:
    sys.stderr.write(f"plait: error: {visible(' '.join(message.split()))}\n")
    sys.exit(1)


def _drop_output() -> None:
    """Let what is still buffered go nowhere, or the interpreter would complain about it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@app.command()
def views(store: StoreOption = Path(), rev: RevOption = None, json: JsonOption = False) -> None:
    """List the views: what each is made from, by which encoder, its shape and rev."""
    opened = open_store(store, rev)
    described = [_describe(view, len(opened)) for view in opened.views.values()]
    if json:
        print_json(described)
    else:
        short = [
            {**view, "present": f"{view['present']} of {view['rows']}", "rev": view["rev"][:12]} for view in described
        ]
        print_table(
            [name.replace("_", " ") for name in _SUMMARY], [[view[name] for name in _SUMMARY] for view in short]
        )


def _describe(view: StoredView, num_rows: int) -> dict[str, Any]:
    return {
        "name": view.name,
        "input": view.input,
        "made_from": view.made_from,
        "encoder": view.encoder,
        "fit": view.fit,
        "pooling": view.pooling,
        "dtype": view.dtype,
        "shape": list(view.shape),
        "present": view.num_present,
        "rows": num_rows,
        "rev": view.rev,
        "weights_digest": view.weights_digest,
        "code_version": view.code_version,
        "deterministic": view.deterministic,
        "caveat": view.caveat,
        "definition": view.definition,
    }


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="One SELECT over the relations samples and rejects.")],
    store: StoreOption = Path(),
    rev: RevOption = None,
    json: JsonOption = False,
) -> None:
    """Ask the store in SQL: samples has a column a view, null where the embedding is absent."""
    found = open_store(store, rev).sql(query)
    rows = (row for batch in found.to_batches(max_chunksize=1024) for row in batch.to_pylist())
    if json:
        print_json_rows(rows)
    else:
        print_table(found.column_names, (list(row.values()) for row in rows))


@app.command()
def get(
    view: Annotated[str, typer.Argument(help="Name of the view.")],
    keys: Annotated[list[str], typer.Argument(metavar="KEY...", help="Keys of samples.")],
    store: StoreOption = Path(),
    rev: RevOption = None,
    json: JsonOption = False,
) -> None:
    """Print the embeddings of samples, in the order of the keys; null is an absent one."""
    rows = _embeddings(open_store(store, rev), view, keys)
    if json:
        print_json_rows(rows)
    else:
        print_table(list(rows[0]), (list(row.values()) for row in rows))


def _embeddings(store: features.Store, view: str, keys: list[str]) -> list[dict[str, Any]]:
    embedding = "embedding"
    if view in store.views and store.views[view].is_sequence:
        return [
            {
                "key": key,
                embedding: None if found is None else found.vectors_TD.tolist(),
                "start_s": None if found is None else found.times_T2[:, 0].tolist(),
                "end_s": None if found is None else found.times_T2[:, 1].tolist(),
            }
            for key, found in zip(keys, store.get_sequences(keys, view), strict=True)
        ]
    vectors_ND = store.get(keys, view)
    absent_N = (vectors_ND != vectors_ND).all(axis=1)
    return [
        {"key": key, embedding: None if absent else vector.tolist()}
        for key, vector, absent in zip(keys, vectors_ND, absent_N, strict=True)
    ]
