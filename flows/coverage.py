"""The command that says how much of each recording became segments."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.options import JsonOption
from flows.tables import print_json, print_table

_SHOWN = 20


def add_coverage(app: typer.Typer) -> None:
    """Add the command coverage."""
    app.command("coverage")(_coverage)


def _coverage(
    folder: Annotated[Path, typer.Argument(help="What the stage align made.")] = Path("data/align"),
    every: Annotated[bool, typer.Option("--all", help=f"Show all recordings, not the worst {_SHOWN}.")] = False,
    json: JsonOption = False,
) -> None:
    """Show how much of each recording became segments, by modality, the worst recordings first."""
    from pipelines.coverage import COVERAGE_FILE, read_coverage, summarise

    found = summarise(read_coverage(folder / COVERAGE_FILE))
    if json:
        print_json(found)
        return
    print_table(
        ["modality", "recordings", "seconds", "in segments", "share"], total_rows(found["totals"]), title="Coverage"
    )
    recordings = found["recordings"]
    shown = recordings if every else recordings[:_SHOWN]
    print_table(["recording", *found["totals"], "rejected"], recording_rows(shown, list(found["totals"])))
    if len(shown) < len(recordings):
        sys.stdout.write(f"{len(recordings) - len(shown)} recordings more: --all\n")


def total_rows(totals: dict[str, Any]) -> list[list[Any]]:
    """A row a modality: recordings that have it, seconds there, seconds in segments, share."""
    return [
        [name, one["recordings"], round(one["there_s"], 3), round(one["segments_s"], 3), percent(one["share"])]
        for name, one in totals.items()
    ]


def recording_rows(recordings: list[dict[str, Any]], modalities: list[str]) -> list[list[Any]]:
    """A row a recording: of each modality how much of it became how many segments, and why it was rejected."""
    return [
        [one["recording"], *(_cell(one["modalities"].get(name)) for name in modalities), one["reason"]]
        for one in recordings
    ]


def _cell(numbers: dict[str, Any] | None) -> str | None:
    if numbers is None:
        return None
    seconds = f"{numbers['segments_s']:.1f} of {numbers['there_s']:.1f} s"
    return f"{percent(numbers['share'])}: {seconds}, {numbers['num_segments']} segments"


def percent(share: float | None) -> str | None:
    """A share for people."""
    return None if share is None else f"{100 * share:.1f}%"
