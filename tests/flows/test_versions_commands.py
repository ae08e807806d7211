import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from building import build_store

from flows.cli import main

Plait = Callable[..., tuple[int, str, str]]
KEYS = [f"rec{number:02}/0000" for number in range(20)]
REJECTS = [
    {"key": "rec04", "stage": "align", "reason": "overlap", "dropped": "nothing", "text": "2 of 3 cues"},
    {"key": "rec98", "stage": "clean", "reason": "empty", "dropped": "sample", "text": "\x1b[2J\nnothing"},
    {"key": "rec99", "stage": "clean", "reason": "silent", "dropped": "sample", "text": "it peaks at -80 dBFS"},
]


@pytest.fixture
def plait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Plait:
    """Runs the command in this process, in a folder with the stores old and new."""
    for name, keys, value in (("old", KEYS[:-2], 1.0), ("new", KEYS[1:], 2.0)):
        samples = [{"key": key, "label": f"label {value:g}", "start_s": 1, "end_s": 2.5} for key in keys]
        vectors = [np.full(4, value)] * len(keys)
        views = {"image": {"vectors": vectors, "rev": name}, name: {"vectors": vectors}}
        (tmp_path / name).mkdir()
        build_store(tmp_path / name, samples, views, rejects=REJECTS)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["plait", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        status = stopped.value.code
        return (status if isinstance(status, int) else 0, *capsys.readouterr())

    return run


def _row(out: str, *start: str) -> list[str]:
    return next(line.split() for line in out.splitlines() if tuple(line.split()[: len(start)]) == start)


def test_diff_prints_what_changed(plait: Plait) -> None:
    status, out, err = plait("diff", "old", "new")

    assert (status, err) == (0, "")
    assert _row(out, "samples") == ["samples", "2", "1", "17", "0", "label", "of", "17"]
    assert _row(out, "image")[:5] == ["image", "2", "1", "17", "0"]
    assert "the view: all is computed anew" in out
    assert _row(out, "new", "-")[-1] == "added"
    assert _row(out, "old", "-")[-1] == "removed"
    assert _row(out, "samples", "added")[2:] == ["rec18/0000,", "rec19/0000"]
    assert _row(out, "train", "label", "1")[3:] == ["18", "0", "-18"]
    assert _row(out, "image", "old")[2:5] == ["18", "2", "2"]


def test_diff_lists_the_first_keys_or_all(plait: Plait) -> None:
    assert KEYS[12] not in plait("diff", "old", "new")[1]
    assert KEYS[12] in plait("diff", "old", "new", "--keys")[1]


def test_diff_gives_json(plait: Plait) -> None:
    found = json.loads(plait("diff", "old", "--store", "new", "--json")[1])

    assert found["views"]["image"]["removed"] == {"num": 1, "keys": KEYS[:1]}
    assert found["views_added"] == ["new"]
    assert len(found["samples"]["changed"]["keys"]) == 10


def test_diff_of_equal_versions_prints_no_more_than_counts(plait: Plait) -> None:
    assert plait("diff", "new", "new")[1].count("\n\n") == 2


def test_diff_says_what_is_no_version(plait: Plait) -> None:
    status, _, err = plait("diff", "v1", "--store", "new")

    assert status == 1
    assert "is in no DVC project, so it has no versions" in err


def test_lineage_prints_a_tree(plait: Plait) -> None:
    status, out, _ = plait("lineage", KEYS[3], "--store", "new")

    assert status == 0
    assert out.startswith(f"{KEYS[3]}  (new, not committed)\n  source {KEYS[3]}.mp4\n")
    assert "  sample of rec03 from 1 to 2.5 s\n    split train, group rec03, label label 2\n" in out
    assert "  view image: built of image, mean, float16\n    rev new, feature key " in out


def test_lineage_of_a_lost_sample_is_an_answer(plait: Plait) -> None:
    status, out, _ = plait("lineage", "rec99/0001", "--store", "new")

    assert status == 0
    assert "  lost in clean: sample of rec99, silent: it peaks at -80 dBFS\n" in out
    assert json.loads(plait("lineage", "rec99", "--store", "new", "--json")[1])["sample"] is None


def test_lineage_escapes_what_a_terminal_would_obey(plait: Plait) -> None:
    assert (
        "  lost in clean: sample of rec98, empty: \\x1b[2J\\nnothing\n"
        in plait("lineage", "rec98", "--store", "new")[1]
    )
    found = json.loads(plait("lineage", "rec98", "--store", "new", "--json")[1])
    assert found["rejects"][0]["text"] == "\x1b[2J\nnothing"


def test_lineage_tells_what_is_odd_about_a_recording_and_takes_it_for_no_loss(plait: Plait) -> None:
    assert "  odd in align: rec04, overlap: 2 of 3 cues\n" in plait("lineage", KEYS[4], "--store", "new")[1]
    status, _, err = plait("lineage", "rec04", "--store", "new")
    assert status == 1
    assert "has no sample 'rec04', but parts of it: ask for 'rec04/0000'" in err


def test_lineage_of_an_unknown_key_is_an_error(plait: Plait) -> None:
    status, _, err = plait("lineage", "rec5/000", "--store", "new")

    assert status == 1
    assert "did you mean 'rec" in err
