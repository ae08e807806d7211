import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from shard_work import (
    KEYS,
    Copying,
    Doubling,
    Failing,
    FillingTheDisk,
    IdleRunner,
    local_beam,
    num_begun,
    run_doubling,
    shard_task,
    shard_tasks,
)

from features.errors import ConfigError, PlaitError, SourceError, StageError
from features.rev import digest_file
from features.shards import Shard, read_shard, write_json
from pipelines.job import WORK_FOLDER, Reject, ShardRecord, ShardTask, ShardWorker, make_shard, remove_work, run_job
from pipelines.params import BeamParams

ROOT = Path(__file__).parents[2]


def _run(
    worker: ShardWorker,
    tasks: list[ShardTask],
    known: dict[str, ShardRecord] | None = None,
    params: BeamParams | None = None,
) -> list[ShardRecord]:
    return run_job(worker, tasks, known=known or {}, params=params or local_beam(), label="copy")


def _error(worker: object, tasks: list[ShardTask], params: BeamParams | None = None) -> str:
    with pytest.raises(PlaitError) as raised:
        _run(worker, tasks, params=params)
    assert "\n" not in str(raised.value)
    return f"{type(raised.value).__name__}: {raised.value}"


@pytest.mark.parametrize("threads", [1, 3])
def test_run_job_returns_records_in_the_order_of_the_tasks(tmp_path: Path, threads: int) -> None:
    tasks = shard_tasks(tmp_path / "out")[::-1]
    records = _run(Copying(), tasks, params=local_beam(threads))

    assert [record.shard.file for record in records] == [task.file for task in tasks]
    assert sum(record.num_in for record in records) == len(KEYS)
    for task, record in zip(tasks, records, strict=True):
        assert read_shard(task.path).column("key").to_pylist() == task.inputs[0]
        assert record.shard.digest == digest_file(task.path)
        assert record.fingerprint == task.fingerprint


def test_run_job_does_not_make_a_finished_shard_again(tmp_path: Path) -> None:
    tasks, worker = shard_tasks(tmp_path / "out"), Copying()
    first = _run(worker, tasks)
    published = {record.shard.file: record for record in first[:2]}
    remove_work(tmp_path / "out")

    # Two are published, so all others were only begun by a run that did not come to its end.
    assert _run(worker, tasks, published) == first
    assert sorted(num_begun(tmp_path / "out").values()) == [1] * 2 + [2] * (len(tasks) - 2)
    # Now the records of that run stand beside the shards.
    assert _run(worker, tasks, published) == first
    assert sum(num_begun(tmp_path / "out").values()) == 2 * len(tasks) - 2


def test_run_job_makes_a_published_shard_again_when_its_file_is_gone(tmp_path: Path) -> None:
    tasks, worker = shard_tasks(tmp_path / "out"), Copying()
    known = {record.shard.file: record for record in _run(worker, tasks)}
    tasks[1].path.unlink()

    _run(worker, tasks, known)
    assert num_begun(tmp_path / "out")[tasks[1].name] == 2
    assert tasks[1].path.exists()


def test_run_job_with_nothing_to_do_starts_no_runner(tmp_path: Path) -> None:
    tasks = shard_tasks(tmp_path / "out")
    records = _run(Copying(), tasks)

    known = {record.shard.file: record for record in records}
    assert _run(Copying(), tasks, known, local_beam(runner=IdleRunner)) == records
    assert _run(Copying(), [], {}) == []


def test_run_job_does_not_take_a_file_of_other_settings_for_its_own(tmp_path: Path) -> None:
    """The name of a packed shard is its number: a run that was cut off may have put other bytes there."""
    keys, worker = ["a", "b"], Copying()
    old = shard_task(tmp_path / "out", keys, "old", "train-000000.arrow")
    new = shard_task(tmp_path / "out", keys, "new", "train-000000.arrow")
    known = {record.shard.file: record for record in _run(worker, [old])}
    _run(worker, [new], known)

    assert _run(worker, [old], known)[0].shard == known[old.file].shard
    assert read_shard(old.path).column("text").to_pylist() == ["old", "old"]
    assert _run(worker, [new], known)[0].shard.digest == digest_file(new.path)
    assert read_shard(new.path).column("text").to_pylist() == ["new", "new"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (SourceError("rec7 is gone: run ingest"), "StageError: rec7 is gone: run ingest"),
        (OSError(errno.ENOSPC, "No space left on device", "/data/x"), "No space left on device at /data/x"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "a.mp4"), "No such file or directory at a.mp4"),
    ],
)
def test_run_job_says_a_workers_error_in_one_line(tmp_path: Path, error: Exception, said: str) -> None:
    text = _error(Failing(error), shard_tasks(tmp_path / "out"))

    assert text.startswith("StageError: ")
    assert text.endswith(said)
    assert not list((tmp_path / "out").glob("*.arrow"))


def test_run_job_names_a_full_disk(tmp_path: Path) -> None:
    assert "No space left on device" in _error(FillingTheDisk(), shard_tasks(tmp_path / "out"))


def test_run_job_says_a_defect_in_one_line_and_keeps_its_cause(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(StageError, match=r"^the Beam job 'copy' failed on .*FnApiRunner: .*second line") as raised:
        _run(Failing(ValueError("first line\nsecond line")), shard_tasks(tmp_path / "out"))

    assert raised.value.__cause__ is not None


def test_run_job_goes_on_where_a_failed_one_ended(tmp_path: Path) -> None:
    tasks = shard_tasks(tmp_path / "out")
    failing = Failing(SourceError("rec7 is gone"), tasks[-1].name)
    _error(failing, tasks, local_beam(1))
    records = _run(Copying(), tasks)

    assert len(records) == len(tasks)
    counts = num_begun(tmp_path / "out")
    assert counts.pop(tasks[-1].name) == 2
    assert set(counts.values()) == {1}


def test_run_job_begins_no_shard_after_one_has_failed(tmp_path: Path) -> None:
    tasks = shard_tasks(tmp_path / "out")
    _error(Failing(SourceError("gone")), tasks, local_beam(1))

    assert sum(num_begun(tmp_path / "out").values()) == 1


def test_run_job_notices_a_runner_that_loses_elements(tmp_path: Path) -> None:
    text = _error(Copying(), shard_tasks(tmp_path / "out"), local_beam(runner=IdleRunner))

    assert "reported success, but shard" in text
    assert "use another runner" in text


def test_run_job_notices_a_record_whose_shard_is_gone(tmp_path: Path) -> None:
    tasks = shard_tasks(tmp_path / "out")
    _run(Copying(), tasks)
    tasks[0].path.unlink()

    text = _error(Copying(), tasks, local_beam(runner=IdleRunner))
    assert f"shard {tasks[0].name} was not made" in text


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--direct_num_workers=many", "argument --direct_num_workers: invalid int value: 'many'"),
        ("--job_name", "argument --job_name: expected one argument"),
        ("--direct_num_workrs=2", "Beam knows no option 'direct_num_workrs'"),
    ],
)
def test_run_job_names_a_bad_beam_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, said: str
) -> None:
    text = _error(Copying(), shard_tasks(tmp_path / "out"), local_beam(2, option))

    assert text.startswith(f"ConfigError: beam.options is ['{option}']")
    assert said in text
    assert "usage" not in capsys.readouterr().err


@pytest.mark.parametrize("runner", ["nowhere.Runner", "apache_beam.pipeline.Runner", "FastRunner", ""])
def test_run_job_names_a_runner_that_cannot_be_loaded(tmp_path: Path, runner: str) -> None:
    with pytest.raises(ConfigError, match=f"beam.runner is '{runner}', which cannot be loaded"):
        _run(
            Copying(),
            shard_tasks(tmp_path / "out"),
            params=BeamParams(runner=runner, options=[], threads=1),
        )


def test_make_shard_leaves_its_record_beside_the_shard(tmp_path: Path) -> None:
    task = shard_tasks(tmp_path / "out")[0]

    assert make_shard(task, Copying())
    assert {path.suffix for path in (tmp_path / "out" / WORK_FOLDER).iterdir()} == {".json", ".progress"}
    assert make_shard(task, Failing(SourceError("it is made already")))


def test_make_shard_tries_again_after_a_failure(tmp_path: Path) -> None:
    task = shard_tasks(tmp_path / "out")[0]

    assert not make_shard(task, Failing(SourceError("gone")))
    assert make_shard(task, Copying())


def test_shard_record_counts_what_could_have_been_rejected() -> None:
    shard = _shard(num_rows=3)
    rejects = (Reject("a", "align", "too_short", "sample", ""), Reject("b", "align", "clipped", "part", ""))

    assert ShardRecord(shard, "f", 2, rejects).num_tried == 4  # three segments made, one rejected
    assert ShardRecord(shard, "f", 9, ()).num_tried == 9


def _shard(num_rows: int) -> Shard:
    return Shard("name", "file", num_rows, "a", "b", "digest")


def test_shard_record_survives_json(tmp_path: Path) -> None:
    record = ShardRecord(_shard(3), "f", 2, (Reject("é", "align", "too_short", "sample", "0 s"),))
    write_json(tmp_path / "record.json", record.to_json())

    assert ShardRecord.from_json(json.loads((tmp_path / "record.json").read_bytes())) == record


def test_a_killed_run_is_finished_by_running_it_again(tmp_path: Path) -> None:
    folder, scratch = tmp_path / "killed", tmp_path / "scratch"
    killed = _in_a_process("kill", str(folder))
    assert killed.returncode == -signal.SIGKILL
    assert not (folder / "manifest.json").exists()
    finished = {path: path.stat().st_mtime_ns for path in folder.glob("*.arrow")}
    assert len(finished) == 3

    run_doubling(folder, Doubling())
    run_doubling(scratch, Doubling())
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        path.name: path.read_bytes() for path in scratch.iterdir()
    }


@pytest.mark.parametrize("limit_bytes", [700, 64])  # room for the record of the failure, and none
def test_a_disk_that_takes_no_more_is_one_line_and_publishes_nothing(tmp_path: Path, limit_bytes: int) -> None:
    ended = _in_a_process("limit", str(tmp_path / "out"), str(limit_bytes))

    assert ended.returncode == 1
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert "File too large" in line
    left = {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert not [name for name in left if name.endswith(".tmp")]
    assert "manifest.json" not in left
    for path in (tmp_path / "out").glob("*.arrow"):  # one that was small enough
        read_shard(path)


def _in_a_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tests" / "shard_work.py"), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, env=environment)
