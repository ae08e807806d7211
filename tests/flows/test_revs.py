"""What views are made by, noted where DVC sees it: weights that change in place run embed, and nothing else does."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from dvc_project import dvc, git, init_project, isolate, write_store

from features.errors import EncoderError
from flows.cli import main
from pipelines.embed import define_views
from pipelines.params import EmbedParams
from pipelines.revs import declared_revs, read_revs, write_revs

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")  # DVC's own use of pygtrie

ROOT = Path(__file__).parents[2]
WEIGHTS = "models/tiny/model.safetensors"
VIEWS = {
    "text": {"input": "text", "encoder": "transformers:./models/tiny"},
    "audio": {"input": "audio", "encoder": "logmel-mfcc"},
}


def _stages() -> dict[str, object]:
    """The stage revs as the project has it, and one that runs when embed would."""
    revs = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["revs"]
    revs["cmd"] = f"{sys.executable} -c 'from flows.cli import main; main()' revs"
    embed = {
        "cmd": "echo ran >> ran && mkdir -p data/features && cp -r source/. data/features",
        "deps": ["data/revs.json", "source"],
        "outs": [{"data/features": {"persist": True}}],
    }
    return {"revs": revs, "embed": embed}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose graph has run, and whose work is committed but for dvc.lock."""
    isolate(monkeypatch, tmp_path)
    project = tmp_path / "project"
    init_project(project, has_remote=True)
    monkeypatch.chdir(project)
    _write_weights(b"first")
    write_store(project / "source", 1.0)
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["embed"]["views"] = VIEWS
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    (project / "dvc.yaml").write_text(yaml.safe_dump({"stages": _stages()}))
    (project / ".gitignore").write_text("/data/\n/models/\nran\n")
    git(project, "add", ".")
    git(project, "commit", "--quiet", "-m", "Start")
    _repro(project)
    return project


def _write_weights(content: bytes) -> None:
    Path(WEIGHTS).parent.mkdir(parents=True, exist_ok=True)
    Path(WEIGHTS).write_bytes(content)


def _repro(project: Path) -> int:
    """Run the graph; how often embed has run by now."""
    with dvc(project) as repo:
        repo.reproduce()
    return len((project / "ran").read_text().split())


def test_weights_that_change_in_place_run_embed_and_nothing_else_does(project: Path) -> None:
    noted = project / "data" / "revs.json"
    assert _repro(project) == 1

    before = read_revs(noted)
    _write_weights(b"other")
    assert _repro(project) == 2
    after = read_revs(noted)
    assert after["audio"] == before["audio"]
    assert after["text"]["rev"] != before["text"]["rev"]
    assert after["text"]["weights_digest"] != before["text"]["weights_digest"]
    assert _repro(project) == 2


def test_publish_refuses_features_of_weights_that_changed_since(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def publish() -> tuple[object, str]:
        with pytest.raises(SystemExit) as stopped:
            main()
        return stopped.value.code, capsys.readouterr().err

    monkeypatch.setattr(sys, "argv", ["plait", "publish", "--tag", "v1"])
    _write_weights(b"other")
    status, err = publish()
    assert status == 1
    assert err.startswith("plait: error: view 'text' would be made otherwise now: its rev is ")
    assert err.endswith("run 'dvc repro'\n")
    assert git(project, "tag") == ""

    _repro(project)
    (project / "elsewhere").mkdir()
    monkeypatch.chdir(project / "elsewhere")  # paths of weights count from the project's folder all the same
    assert publish() == (0, "")


def _params(**changes: object) -> EmbedParams:
    embed = yaml.safe_load((ROOT / "params.yaml").read_text())["embed"]
    return EmbedParams(**{**embed, "views": {"audio": VIEWS["audio"]}, **changes})


def test_a_demanded_device_counts_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has no GPU can ask whether features that were made on one are up to date."""
    monkeypatch.setattr("pipelines.embed._has_cuda", lambda: False)
    found = declared_revs(_params(device="cuda"))["audio"]
    assert found["device"] == "cuda"
    assert found["rev"] != declared_revs(_params(device="auto"))["audio"]["rev"]
    with pytest.raises(EncoderError, match="torch sees no CUDA device"):
        define_views(_params(device="cuda"))


@pytest.mark.parametrize("damage", [lambda path: path.write_text('{"audio": '), os.unlink])
def test_a_damaged_or_missing_account_is_written_again(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    path = tmp_path / "revs.json"
    write_revs(_params(), path)
    whole = path.read_bytes()
    damage(path)
    write_revs(_params(), path)
    assert path.read_bytes() == whole
