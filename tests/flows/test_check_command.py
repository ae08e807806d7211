import json
import sys

import numpy as np
import pytest
from building import build_store

from flows.cli import main


@pytest.fixture
def plait_check(tmp_path, monkeypatch, capsys):
    """Runs the command on a small store, and returns its exit status, output and errors."""
    samples = [{"key": key, "text": "said", "start_s": 0.0, "end_s": 1.0} for key in "ab"]
    build_store(tmp_path, samples, {"image": {"vectors": [np.ones(3), np.zeros(3)]}})

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["plait", "check", "--store", str(tmp_path), *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        return (stopped.value.code or 0, *capsys.readouterr())

    return run


def test_check_command_says_that_all_is_well(plait_check, tmp_path):
    assert plait_check() == (0, f"{tmp_path}: 2 samples in 1 shards, 1 views, no problems\n", "")
    assert plait_check("--json") == (0, "[]\n", "")


def test_check_command_prints_a_line_a_problem_and_fails(plait_check, tmp_path):
    path = next((tmp_path / "image").iterdir())
    path.write_bytes(path.read_bytes()[:-1])
    status, out, err = plait_check()
    assert (status, err) == (1, "")
    problem, summary = out.splitlines()
    assert problem.startswith(f"image/{path.name}: digest: its sha256 is ")
    assert summary.endswith("1 views, 1 problems")
    status, out, _ = plait_check("--json")
    assert status == 1
    assert json.loads(out)[0].keys() == {"where", "rule", "found", "cure"}


def test_check_command_names_a_damaged_manifest(plait_check, tmp_path):
    path = tmp_path / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b"image", b"imago"))
    status, out, err = plait_check()
    assert (status, out) == (1, "")
    assert "manifest.json is damaged or was edited: restore it with 'dvc checkout" in err
