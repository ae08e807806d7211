import re
from pathlib import Path

import pytest

from pipelines.progress import ShardProgress, watch_progress


def test_shard_progress_leaves_its_counts_in_a_file(tmp_path: Path) -> None:
    progress = ShardProgress(tmp_path / "shard.progress")
    progress.add(3, 1)
    progress.add(2, 0)
    progress.report()

    assert (tmp_path / "shard.progress").read_text() == "5 1"
    assert len(list(tmp_path.iterdir())) == 1


def test_shard_progress_of_no_sample_is_zero(tmp_path: Path) -> None:
    ShardProgress(tmp_path / "work" / "shard.progress").report()

    assert (tmp_path / "work" / "shard.progress").read_text() == "0 0"


def test_watch_progress_adds_up_the_shards_in_a_plain_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [tmp_path / name for name in ("one", "two", "not begun")]
    with watch_progress("clean", paths, 9):
        for path in paths[:2]:
            progress = ShardProgress(path)
            progress.add(3, 1)
            progress.report()

    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch(r"clean: 6/9 samples, [0-9.]+ samples/s, 2 rejects\n", captured.err)


def test_watch_progress_shows_a_bar_on_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes the stream for a terminal
    monkeypatch.setenv("COLUMNS", "120")
    with watch_progress("clean", [tmp_path / "one"], 4):
        progress = ShardProgress(tmp_path / "one")
        progress.add(4, 1)
        progress.report()

    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().err)
    assert "4/4" in shown
    assert "1 rejects" in shown


def test_watch_progress_lets_an_error_through(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), watch_progress("clean", [tmp_path / "one"], 4):
        raise ZeroDivisionError
