"""The command plan: what a run would do, before it does it."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from flows.commands import ParamsOption
from flows.options import JsonOption
from flows.tables import print_json, print_table

if TYPE_CHECKING:
    from pipelines.plan import RunPlan
    from pipelines.source_changes import SourceChanges

_SHOWN_KEYS = 5


def add_plan(app: typer.Typer) -> None:
    """Add the command plan."""
    app.command("plan")(plan)


def plan(params: ParamsOption = Path("params.yaml"), json: JsonOption = False) -> None:
    """Say what a run would do and why: recordings, shards of the stages, samples of the views. Writes nothing."""
    from flows.stages import DATA
    from pipelines.params import load_params
    from pipelines.plan import plan_run

    loaded = load_params(params)
    planned = plan_run(loaded, DATA)
    if json:
        print_json(describe_plan(planned))
    else:
        print_plan(planned, loaded.ingest.source)


def describe_plan(planned: "RunPlan") -> dict[str, Any]:
    """The plan as JSON has it."""
    return {
        "nothing_to_do": planned.is_empty,
        "source": {**vars(planned.source), "renamed": [vars(recording) for recording in planned.source.renamed]},
        "stages": {
            stage.stage: {
                "kept": stage.num_kept,
                "again": stage.num_again,
                "open": stage.num_open,
                "why": stage.reasons(),
                "differences": [vars(difference) for difference in stage.differences],
            }
            for stage in planned.stages
        },
        "samples": {
            "known": planned.store.num_samples,
            "open": planned.num_open_samples,
            "open_recordings": planned.open_recordings,
            "shards_to_write": planned.store.num_shards,
        },
        "views": {
            view.name: {
                "new": view.num_new,
                "stale": view.num_stale,
                "unchanged": view.num_unchanged,
                "removed": view.num_removed,
                "encode": view.num_encoded,
                "open": view.num_open,
                "why": view.reasons(),
                "differences": [vars(difference) for difference in view.differences],
            }
            for view in planned.store.views
        },
    }


def print_plan(planned: "RunPlan", source: str) -> None:
    """Print the plan as tables, or one line if there is nothing to do."""
    store = planned.store
    if planned.is_empty:
        counts = {
            "recording": planned.source.num_unchanged,
            "sample": store.num_samples,
            "view": len(store.views),
        }
        recordings, samples, views = (f"{num} {noun if num == 1 else noun + 's'}" for noun, num in counts.items())
        sys.stdout.write(f"nothing to do: {recordings}, {samples} and {views} are up to date\n")
        return
    print_table(["recordings", "number", "which"], _source_rows(planned.source), title=f"Source {source}")
    stages = [
        ([stage.stage, stage.num_kept, stage.num_again, stage.num_open], stage.reasons()) for stage in planned.stages
    ]
    print_table(["stage", "kept", "made again", "known later", "why"], _with_reasons(stages), title="Shards")
    rows = [
        (
            [
                view.name,
                view.num_new,
                view.num_stale,
                view.num_unchanged,
                view.num_removed,
                view.num_open,
                view.num_encoded,
            ],
            view.reasons(),
        )
        for view in store.views
    ]
    columns = ["view", "new", "stale", "unchanged", "removed", "known later", "to encode", "why"]
    print_table(columns, _with_reasons(rows), title="Samples that have the view's input")
    for note in _notes(planned, source):
        sys.stdout.write(f"{note}\n")


def _source_rows(source: "SourceChanges") -> Iterator[list[Any]]:
    renamed = [f"{found.key_before} -> {found.key}" for found in source.renamed if found.key_before != found.key]
    moved = [found.key for found in source.renamed if found.key_before == found.key]
    for called, found in (
        ("new", source.new),
        ("changed", source.changed),
        ("renamed", renamed),
        ("same, in other files", moved),
        ("removed", source.removed),
    ):
        yield [called, len(found), _first(found)]
    yield ["unchanged", source.num_unchanged]
    if source.num_rejected:
        yield ["rejected", source.num_rejected]


def _first(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN_KEYS} more" if len(names) > _SHOWN_KEYS else ""
    return ", ".join(names[:_SHOWN_KEYS]) + more


def _with_reasons(rows: Sequence[tuple[list[Any], list[str]]]) -> Iterator[list[Any]]:
    """A line for each row with its first reason, and one for each further reason."""
    for row, reasons in rows:
        yield [*row, *reasons[:1]]
        for reason in reasons[1:]:
            yield [*([""] * len(row)), reason]


def _notes(planned: "RunPlan", source: str) -> Iterator[str]:
    store, num_open = planned.store, len(planned.open_recordings)
    if store.num_shards:
        yield f"files of the sample table that are written: {store.num_shards}"
    if planned.source.has_edits and Path(source).is_file():
        yield f"DVC looks at {source} alone: if media changed beside it, run 'dvc repro -f ingest' first"
    if num_open:
        yield (
            f"recordings that go through the stages before embed again: {num_open} "
            f"({_first(planned.open_recordings)}); what becomes of their {planned.num_open_samples} samples, and how "
            "many are encoded, is known later"
        )
