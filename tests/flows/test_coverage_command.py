"""The command that says how much of the recordings became segments."""

import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from building import build_store

from flows.cli import main
from pipelines.coverage import COVERAGE_FILE, COVERAGE_SCHEMA


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a store, and 25 recordings of which ever more became segments; one was rejected."""
    rows = [{"recording": "lost", "segments_s": 0.0, "num_segments": 0, "reason": "silent"}]
    for number in range(25):
        for modality, there_s in (("audio", 25.0), ("text", 10.0)):
            numbers = {"there_s": there_s, "segments_s": there_s * number / 24, "num_segments": number}
            rows.append({"recording": f"rec{number:02}", "modality": modality, **numbers})
    folder = tmp_path / "data" / "align"
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=COVERAGE_SCHEMA), folder / COVERAGE_FILE)
    build_store(tmp_path / "data" / "features", [{"key": "rec00/0000"}], {})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["plait", *words])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 0


def test_coverage_prints_totals_and_the_worst_recordings(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, "coverage")
    lines = capsys.readouterr().out.splitlines()
    assert "audio" in lines[2]
    assert lines[2].split() == ["audio", "25", "625", "312.5", "50.0%"]
    assert lines[3].split() == ["video", "0", "0", "0", "-"]
    assert lines[7].split() == ["lost", "-", "-", "-", "silent"]
    assert lines[9].startswith("rec01      4.2%: 1.0 of 25.0 s, 1 segments")
    assert lines[-1] == "6 recordings more: --all"
    run(monkeypatch, "coverage", "--all")
    assert "rec24" in capsys.readouterr().out


def test_coverage_prints_all_as_json(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, "coverage", str(project / "data" / "align"), "--json")
    found = json.loads(capsys.readouterr().out)
    assert len(found["recordings"]) == 26
    assert found["totals"]["text"] == {"recordings": 25, "there_s": 250.0, "segments_s": 125.0, "share": 0.5}


def test_the_page_shows_coverage_where_it_is_known(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(monkeypatch, "stats", "--html", "page.html")
    page = (project / "page.html").read_text()
    assert "<h2>Coverage</h2>" in page
    assert "4.2%: 1.0 of 25.0 s, 1 segments" in page
    (project / "data" / "align" / COVERAGE_FILE).unlink()
    run(monkeypatch, "stats", "--html", "page.html")
    assert "<h2>Coverage</h2>" not in (project / "page.html").read_text()
