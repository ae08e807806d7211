import re
from pathlib import Path

import pytest

from pipelines.progress import Counts, ShardProgress, watch_progress


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


def _report(path: Path, num_done: int, num_rejects: int) -> None:
    progress = ShardProgress(path)
    progress.add(num_done, num_rejects)
    progress.report()


def test_counts_follow_the_shards_in_work_and_read_finished_ones_once(tmp_path: Path) -> None:
    work = tmp_path / ".work"
    one, two = work / "one.progress", work / "two.progress"
    counts = Counts([one, two])
    assert counts.read() == (0, 0)
    _report(work / "of another job.progress", 9, 9)
    _report(one, 1, 0)
    assert counts.read() == (1, 0)
    _report(one, 2, 1)
    _report(two, 4, 0)
    (work / "one.json").write_text("{}")
    assert counts.read() == (6, 1)
    one.write_text("nobody reads this again")
    _report(two, 5, 2)
    assert counts.read() == (7, 3)


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
