"""The preprocessing flow: every stage of dvc.yaml through DVC, then one report."""

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State, TaskRun

from features.errors import PlaitError, StageError
from flows.report import collect_report, report_markdown

_ERROR_PREFIX = "plait: error: "
_DVC_PREFIX = "ERROR: failed to reproduce "
ARTIFACT_KEY = "plait-report"


class StageInterruptedError(StageError):
    """A stage ended without naming an error of its own: killed, or cut off from a disk or a server."""


@flow(name="preprocess")
def preprocess(project: str = ".") -> None:
    """Bring features, packed shards and models up to date with the recordings, and publish a report."""
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).addFilter(_without_traceback)
    folder = Path(project).resolve()
    for stage in stage_names(folder):
        reproduce.with_options(name=stage)(stage, str(folder))
    publish_report(str(folder))


def _without_traceback(record: logging.LogRecord) -> bool:
    """Let an error that names its cause be the line that it is; Prefect adds the page of how it was raised."""
    if record.exc_info and isinstance(record.exc_info[1], PlaitError):
        record.exc_info = None
    return True


def stage_names(project: Path) -> list[str]:
    """The stages in the order of dvc.yaml, which lists them in the order of the data."""
    return list(yaml.safe_load((project / "dvc.yaml").read_text())["stages"])


def may_pass_next_time(task: Any, run: TaskRun, state: State[Any]) -> bool:
    """Whether to try again: not after an error that the stage itself named, which the same input would give again."""
    outcome = state.result(raise_on_failure=False)
    return isinstance(outcome, StageInterruptedError)


def _named_error(line: str) -> str | None:
    """The error that a line of a stage's output names: its own, or DVC's, which may find that an input is missing."""
    if line.startswith(_ERROR_PREFIX):
        return line.removeprefix(_ERROR_PREFIX).strip()
    if line.startswith(_DVC_PREFIX) and "failed to run:" not in line:
        return line.removeprefix(_DVC_PREFIX).strip()
    return None


@task(retries=2, retry_delay_seconds=10, retry_condition_fn=may_pass_next_time)
def reproduce(stage: str, project: str) -> None:
    """Run one stage through DVC, which skips it when nothing it depends on has changed.

    The first stage brings along what it depends on (the demo recordings), every other one runs alone.
    """
    logger = get_run_logger()
    alone = ["--single-item"] if stage != stage_names(Path(project))[0] else []
    command = [sys.executable, "-m", "dvc", "repro", *alone, stage]
    error = None
    with subprocess.Popen(
        command, cwd=project, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
    ) as process:
        for line in process.stdout or ():
            logger.info(line.rstrip())
            error = error or _named_error(line)
    if error:
        raise StageError(f"stage {stage}: {error}")
    if process.returncode:
        raise StageInterruptedError(f"stage {stage} ended with status {process.returncode} and no error of its own")


@task
def publish_report(project: str) -> None:
    """Keep the final table as an artifact of this run."""
    create_markdown_artifact(
        key=ARTIFACT_KEY, markdown=report_markdown(collect_report(Path(project))), description="What came out"
    )
