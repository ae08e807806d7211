"""The command precision: what a view's precision costs and saves."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.commands import ParamsOption
from flows.options import JsonOption
from flows.tables import print_json


def add_precision(app: typer.Typer) -> None:
    """Add the command precision."""
    app.command("precision")(precision)


def precision(
    view: Annotated[
        str, typer.Argument(help="A view of params.yaml with the option precision, compile or channels_last.")
    ],
    samples: Annotated[int, typer.Option("--samples", min=1, help="How many samples, spread over the keys.")] = 64,
    params: ParamsOption = Path("params.yaml"),
    json: JsonOption = False,
) -> None:
    """Say how far a view's precision takes its vectors from float32, and how much time it saves; writes nothing."""
    from flows.stages import SEGMENTS
    from pipelines.params import load_params
    from pipelines.precision import measure_precision

    loaded = load_params(params)
    found = measure_precision(loaded.embed, view, SEGMENTS, num_samples=samples, threads=loaded.beam.threads)
    described = {
        "view": view,
        "precision": found.precision,
        "compile": found.compile,
        "channels_last": found.channels_last,
        "num_samples": len(found.cosine_N),
        "cosine_mean": float(found.cosine_N.mean()),
        "cosine_least": float(found.cosine_N.min()),
        "times_as_fast": found.plain_seconds / found.seconds,
    }
    if json:
        print_json(described)
        return
    ways = [found.precision, *["compiled"] * found.compile, *["channels first"] * (not found.channels_last)]
    sys.stdout.write(
        f"{view} in {', '.join(ways)} beside plain float32, over {len(found.cosine_N)} samples: cosine "
        f"{described['cosine_mean']:.6f} in the mean and {described['cosine_least']:.6f} at the least, "
        f"{described['times_as_fast']:.2f} times as fast\n"
    )
