"""What the command plan prints."""

import json
import sys
from pathlib import Path

import pytest
import yaml
from corpus import small_params

from flows.cli import main
from flows.plan import describe_plan, print_plan
from pipelines.differences import Difference
from pipelines.plan import RunPlan, StoreChanges
from pipelines.source_changes import Renamed, SourceChanges
from pipelines.stage import StageManifest
from pipelines.stage_changes import StageChanges
from pipelines.view_changes import ViewChanges

NO_CHANGES = SourceChanges([], [], [], [], num_unchanged=4, num_rejected=0)
UP_TO_DATE = ViewChanges("sound", 0, 0, 8, 0, num_encoded=0, num_open=0, num_other_inputs=0, differences=())


def stage(name: str, num_again: int = 0, differences: tuple[Difference, ...] = ()) -> StageChanges:
    kept = StageManifest(name, {}, ())
    return StageChanges(name, 3, num_again, 0, True, differences, touched=frozenset(), kept=kept)


def stages(*changed: StageChanges) -> list[StageChanges]:
    return [*changed, *(stage(name) for name in ("clean", "align", "augment")[len(changed) :])]


def test_print_plan_with_nothing_to_do_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_plan(RunPlan(NO_CHANGES, stages(), StoreChanges([UP_TO_DATE], 8, 0), [], 0), "recordings")

    assert capsys.readouterr().out == "nothing to do: 4 recordings, 8 samples and 1 view are up to date\n"


def test_print_plan_says_what_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    source = SourceChanges(
        new=[f"new{index}" for index in range(7)],
        changed=["rec1"],
        renamed=[Renamed("rec2", "talk", "rec2.wav", "talk.wav"), Renamed("rec3", "rec3", "a/rec3.wav", "b/rec3.wav")],
        removed=[],
        num_unchanged=4,
        num_rejected=1,
    )
    stale = ViewChanges(
        "image",
        num_new=1,
        num_stale=12,
        num_unchanged=0,
        num_removed=2,
        num_encoded=13,
        num_open=3,
        num_other_inputs=2,
        differences=(
            Difference("definition.libraries.timm", "1.0", "1.1"),
            Difference("definition.settings.size_px", 128, 96),
        ),
    )
    clean = stage("clean", num_again=2, differences=(Difference("image.size_px", 512, 256),))
    planned = RunPlan(source, stages(clean), StoreChanges([stale, UP_TO_DATE], 20, 5), ["rec1", "talk"], 3)
    print_plan(planned, "recordings")

    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "new 7 new0, new1, new2, new3, new4 and 2 more" in lines
    assert "renamed 1 rec2 -> talk" in lines
    assert "same, in other files 1 rec3" in lines
    assert not any(line.startswith("DVC looks at") for line in lines)
    assert "rejected 1" in lines
    assert "clean 3 2 0 parameter image.size_px 512 -> 256" in lines
    row = lines.index("image 1 12 0 2 3 13 library timm 1.0 -> 1.1")
    assert lines[row + 1 : row + 3] == [
        "encoder option size_px 128 -> 96",
        "input bytes of 2 samples",
    ]
    assert "files of the sample table that are written: 5" in lines
    described = describe_plan(planned)
    assert json.loads(json.dumps(described)) == described
    assert described["views"]["image"]["stale"] == 12


def test_plan_runs_in_a_project_that_has_only_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "one.txt").write_text("one")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(small_params(tmp_path / "source").model_dump()))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["plait", "plan", "--json"])
    with pytest.raises(SystemExit) as stopped:
        main()
    found = json.loads(capsys.readouterr().out)

    assert stopped.value.code in (0, None)
    assert found["source"]["new"] == ["one"]
    assert found["stages"]["clean"]["why"] == ["has not run yet"]
    assert not (tmp_path / "data").exists()
