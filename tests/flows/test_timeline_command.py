import contextlib
import json
import sys

import numpy as np
import pytest
from building import build_store

from flows.cli import main


@pytest.fixture
def store(tmp_path):
    """Two samples with a view at 2 Hz; the second has no words."""
    words = [{"start_s": 5.0, "end_s": 6.0, "text": "so"}, {"start_s": 7.5, "end_s": 8.0, "text": "it"}]
    samples = [
        {"key": key, "text": "so it", "start_s": 5.0, "end_s": 7.0 + place, "words": None if place else words}
        for place, key in enumerate("ab")
    ]
    times = np.array([[0, 0.5], [0.5, 1], [1, 1.5]])
    build_store(tmp_path, samples, {"video": {"vectors": [np.array([[1], [2], [3]])] * 2, "times": [times] * 2}})
    return tmp_path


def run(monkeypatch, capsys, *arguments) -> str:
    monkeypatch.setattr(sys, "argv", ["plait", *map(str, arguments)])
    try:
        main()
    except SystemExit as ended:
        return capsys.readouterr().err if ended.code else capsys.readouterr().out
    return capsys.readouterr().out


def test_timeline_prints_words_with_their_vectors(store, monkeypatch, capsys):
    out = run(monkeypatch, capsys, "timeline", "a", "b", "--store", store, "--json")
    assert json.loads(out) == [
        {"key": "a", "start_s": 0.0, "end_s": 1.0, "words": "so", "video": [1.5]},
        {"key": "a", "start_s": 2.5, "end_s": 3.0, "words": "it", "video": None},
    ]


def test_timeline_takes_a_rate_and_a_rule(store, monkeypatch, capsys):
    out = run(monkeypatch, capsys, "timeline", "b", "--to", "1", "--how", "max", "--view", "video", "--store", store)
    assert [line.split() for line in out.splitlines()] == [
        ["key", "start_s", "end_s", "video"],
        ["b", "0", "1", "[2]"],
        ["b", "1", "2", "[3]"],
        ["b", "2", "3", "-"],
    ]


def test_timeline_says_that_there_are_no_words(store, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["plait", "timeline", "b", "--store", str(store)])
    with contextlib.suppress(SystemExit):
        main()
    printed = capsys.readouterr()
    assert printed.out == "key\n"
    assert printed.err == "plait: these samples have no words whose times are known: choose another --to\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--to", "wrod"], "'wrod' is no time base of"),
        (["--to", "-5"], "--to -5 is a rate in hertz, which must be above 0"),
        (["--how", "mode"], "--how 'mode' is none of mean, unweighted, max, nearest, linear"),
        (["--view", "sound"], "has no view 'sound'"),
    ],
)
def test_timeline_says_what_is_wrong_in_one_line(store, monkeypatch, capsys, arguments, said):
    err = run(monkeypatch, capsys, "timeline", "a", *arguments, "--store", store)
    assert err.startswith("plait: error: ")
    assert said in err
    assert err.count("\n") == 1
