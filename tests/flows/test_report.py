"""The final table."""

import json
from pathlib import Path

import numpy as np
import pytest
from building import build_store

from flows.report import collect_report, print_report, report_markdown


@pytest.fixture
def project(tmp_path: Path) -> Path:
    samples = [
        {"key": "a", "label": "x"},
        {"key": "a~1", "label": "x", "variant": 1},
        {"key": "b", "split": "test", "has_video": False},
    ]
    rejects = [
        {"key": key, "stage": "clean", "reason": "silent", "dropped": "audio", "text": "peak | -inf"} for key in "dc"
    ]
    vectors = [np.ones(3, np.float32), np.ones(3, np.float32), None]
    build_store(tmp_path / "data" / "features", samples, {"video": {"vectors": vectors}}, rejects=rejects)
    return tmp_path


def write_results(project: Path, low: float | None, high: float | None) -> None:
    scores = {"accuracy": 0.5, "precision": 0.4, "recall": 0.3, "f1": 0.2}
    gain = {"gain": 0.25, "low": low, "high": high, "num_groups": 7}
    evaluation = {"num_test": 10, "num_unknown": 0, "baseline": 0.1, "best_single": "text", "gain": gain}
    (project / "results").mkdir()
    (project / "results" / "metrics.json").write_text(json.dumps({"concat": scores, "text": scores, "video": scores}))
    (project / "results" / "evaluation.json").write_text(json.dumps(evaluation))


def test_report_counts_samples_rejects_and_views(project: Path) -> None:
    samples, rejects, views, scores = collect_report(project)
    assert samples.rows == [
        ("train", 2, 1, 1, 2, 2, 2, 2),
        ("val", 0, 0, 0, 0, 0, 0, 0),
        ("test", 1, 1, 0, 1, 1, 1, 0),
    ]
    assert rejects.rows == [("clean", "silent", "audio", 2, "c", "peak | -inf")]
    assert [row[0] for row in views.rows] == ["video"]
    assert (scores.rows, scores.note) == ([], "no model: nothing is labelled")


def test_report_puts_fusion_last_with_its_gain_and_interval(project: Path) -> None:
    write_results(project, 0.1, 0.4)
    scores = collect_report(project)[-1]
    assert [row[0] for row in scores.rows] == ["text", "video", "concat"]
    assert "concat over text: +25.0 points of accuracy (95% interval +10.0 to +40.0, over 7 groups)" in scores.note


def test_report_says_when_there_is_no_interval(project: Path) -> None:
    write_results(project, None, None)
    assert "(one group alone gives no interval)" in collect_report(project)[-1].note


def test_report_prints_every_section_as_text_and_markdown(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_results(project, 0.1, 0.4)
    sections = collect_report(project)
    print_report(sections)
    printed = capsys.readouterr().out
    markdown = report_markdown(sections)
    for section in sections:
        assert section.title in printed
        assert f"## {section.title}" in markdown
    assert "peak \\| -inf" in markdown
    assert "| text | 0.500 | 0.400 | 0.300 | 0.200 |" in markdown
