import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from building import build_store

from flows.cli import main

Plait = Callable[..., tuple[int, str, str]]


@pytest.fixture
def plait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Plait:
    """Runs the command over a store of six samples; returns its exit status, output and errors."""
    samples = [{"key": f"k{row}", "split": "val" if row < 2 else "train"} for row in range(6)]
    build_store(
        tmp_path / "store", samples, {name: {"vectors": np.ones((6, 2)), "input": "image"} for name in ("a", "b")}
    )

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["plait", "export", *arguments, "--store", str(tmp_path / "store")])
        with pytest.raises(SystemExit) as stopped:
            main()
        return (stopped.value.code or 0, *capsys.readouterr())

    return run


def test_export_writes_all_views_unless_told(plait: Plait, tmp_path: Path) -> None:
    status, out, _ = plait("parquet", str(tmp_path / "all"))

    assert (status, out) == (0, f"6 samples with a, b are in {tmp_path / 'all'}\n")
    assert pq.read_schema(tmp_path / "all").names[-2:] == ["a", "b"]


def test_export_takes_views_split_and_condition(plait: Plait, tmp_path: Path) -> None:
    some = tmp_path / "some"
    _, out, _ = plait("parquet", str(some), "--view", "b", "--split", "val", "--where", "key <> 'k0'", "--json")

    assert json.loads(out) == {"path": str(some), "format": "parquet", "samples": 1, "views": ["b"]}
    assert pq.read_table(some)["key"].to_pylist() == ["k1"]


def test_export_gives_feast_the_time(plait: Plait, tmp_path: Path) -> None:
    plait("feast", str(tmp_path / "repository"), "--time", "2026-01-31T14:00:00+02:00")
    times = pq.read_table(tmp_path / "repository" / "data" / "a.parquet")["event_timestamp"].to_pylist()

    assert {time.isoformat() for time in times} == {"2026-01-31T12:00:00+00:00"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("parquet", "new", "--time", "2026-01-31"), "a time is of format feast alone; 'parquet' keeps none"),
        (("feast", "new", "--time", "noon"), "--time 'noon' is no time: write it as 2026-01-31T12:00:00+00:00"),
        (("parquet", "store"), "exists, and an export replaces nothing"),
        (("arrow", "new"), "format 'arrow' is none of parquet, lance, datasets, feast"),
    ],
)
def test_export_prints_an_error_as_one_line(
    plait: Plait, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, err = plait(*arguments)

    assert (status, out, err.count("\n")) == (1, "", 1)
    assert message in err
