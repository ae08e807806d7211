"""The commands that run stages. What they run is imported when they are called: asking the store stays quick."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from features.errors import ConfigError

STAGES = {
    "demo": "Make the demo recordings.",
    "ingest": "List the recordings and digest their files.",
    "clean": "Decode every file once and make it uniform.",
    "align": "Cut recordings into segments on one clock.",
    "augment": "Make seeded variants of training samples.",
    "revs": "Note what each view is made by, with the bytes of its weights.",
    "embed": "Bring the feature store up to date.",
    "pack": "Write WebDataset shards.",
    "train": "Train one model a view, and their fusion.",
    "evaluate": "Score the models on the test split.",
}

ParamsOption = Annotated[Path, typer.Option("--params", help="The parameters of all stages.")]
RunnerOption = Annotated[str | None, typer.Option("--runner", help="Beam runner, instead of beam.runner.")]
BeamOption = Annotated[
    list[str] | None, typer.Option("--beam-option", help="An option of the Beam runner, as --name=value; repeatable.")
]


def add_commands(app: typer.Typer) -> None:
    """Add one command a stage, report and run."""
    for name, text in STAGES.items():
        app.command(name, help=f"Stage: {text} DVC calls this; run 'dvc repro' for all of them.")(_stage_command(name))
    app.command("report", help="Print what came out: samples, rejects, views and scores.")(report)
    app.command("run", help="Run all stages as a Prefect flow.")(run)


def _stage_command(name: str) -> Callable[..., None]:
    def command(
        params: ParamsOption = Path("params.yaml"), runner: RunnerOption = None, beam_option: BeamOption = None
    ) -> None:
        from flows.stages import run_stage
        from pipelines.params import load_params

        loaded = load_params(params)
        changes: dict[str, object] = {}
        if runner:
            changes["runner"] = runner
        if beam_option:
            changes["options"] = beam_option
        run_stage(name, loaded, loaded.beam.model_copy(update=changes))

    return command


def report() -> None:
    """Print the report over the store and the results of the current folder."""
    from flows.report import collect_report, print_report

    print_report(collect_report(Path()))


def run() -> None:
    """Run the preprocessing flow in the current folder."""
    if not Path("dvc.yaml").exists():
        raise ConfigError(f"{Path.cwd()} has no dvc.yaml: run from the project's folder")
    from flows.preprocess import preprocess

    preprocess()
