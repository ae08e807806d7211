"""The preprocessing flow on small DVC projects, on Prefect's test harness."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from building import build_store
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.testing.utilities import prefect_test_harness

from features.errors import StageError
from flows.preprocess import ARTIFACT_KEY, StageInterruptedError, preprocess, reproduce, stage_names


@pytest.fixture(scope="module", autouse=True)
def harness() -> Iterator[None]:
    with prefect_test_harness():
        yield


def write_project(folder: Path, **commands: str) -> Path:
    """A DVC project with one stage a command; each appends its name to the file 'ran' and makes an output."""
    stages = {
        name: {"cmd": f"echo {name} >> ran && {command} && echo {name} > {name}.out", "outs": [f"{name}.out"]}
        for name, command in commands.items()
    }
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "-q"], cwd=folder, check=True)
    return folder


def ran(folder: Path) -> list[str]:
    return (folder / "ran").read_text().split()


def test_stage_names_are_in_the_order_of_the_file(tmp_path: Path) -> None:
    write_project(tmp_path, second="true", first="true")
    assert stage_names(tmp_path) == ["second", "first"]


def test_preprocess_runs_each_stage_once_and_publishes_a_report(tmp_path: Path) -> None:
    write_project(tmp_path, first="true", second="true")
    samples = [{"key": "a", "label": "x"}, {"key": "b", "label": "y", "split": "test"}]
    build_store(tmp_path / "data" / "features", samples, {"text": {"vectors": list(np.eye(2, dtype=np.float32))}})
    preprocess(str(tmp_path))
    preprocess(str(tmp_path))
    assert ran(tmp_path) == ["first", "second"]
    assert "## Samples" in asyncio.run(_artifact())


async def _artifact() -> str:
    async with get_client() as client:
        named = ArtifactFilter(key=ArtifactFilterKey(any_=[ARTIFACT_KEY]))
        return str((await client.read_artifacts(artifact_filter=named))[0].data)


@flow
def _one_stage(stage: str, project: str) -> None:
    reproduce.with_options(retry_delay_seconds=0)(stage, project)


def test_a_stage_that_names_its_error_is_not_tried_again(tmp_path: Path) -> None:
    write_project(tmp_path, first="echo 'plait: error: the source is empty' && false")
    with pytest.raises(StageError, match="stage first: the source is empty"):
        _one_stage("first", str(tmp_path))
    assert ran(tmp_path) == ["first"]


def test_preprocess_logs_an_error_that_a_stage_names_without_traceback(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_project(tmp_path, first="echo 'plait: error: the source is empty' && false")
    with pytest.raises(StageError):
        preprocess(str(tmp_path))
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert {record.name for record in errors} == {"prefect.flow_runs", "prefect.task_runs"}
    assert [record.exc_info for record in errors] == [None] * len(errors)


def test_a_stage_whose_input_is_missing_is_not_tried_again(tmp_path: Path) -> None:
    write_project(tmp_path, first="true")
    stages = yaml.safe_load((tmp_path / "dvc.yaml").read_text())
    stages["stages"]["first"]["deps"] = ["nowhere"]
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump(stages))
    with pytest.raises(StageError, match=r"stage first: .*nowhere") as raised:
        _one_stage("first", str(tmp_path))
    assert not isinstance(raised.value, StageInterruptedError)


def test_a_stage_that_was_killed_is_tried_again(tmp_path: Path) -> None:
    write_project(tmp_path, first="(test -e tried || (touch tried && kill -9 $$))")
    _one_stage("first", str(tmp_path))
    assert ran(tmp_path) == ["first", "first"]


def test_a_stage_that_is_killed_each_time_fails_in_the_end(tmp_path: Path) -> None:
    write_project(tmp_path, first="kill -9 $$")
    with pytest.raises(StageInterruptedError, match="stage first ended with status"):
        _one_stage("first", str(tmp_path))
    assert ran(tmp_path) == ["first"] * 3
