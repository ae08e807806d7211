import errno
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pytest
from shard_work import KEYS, SCHEMA, Doubling, local_beam, run_doubling, shard_task

from features.errors import RejectRatioError, StageError
from features.manifest import MANIFEST_FILE
from features.sample import MEDIA_SCHEMA, MediaRow, media_row
from features.shards import read_shard, shard_writer
from pipelines.job import WORK_FOLDER, Reject, ShardTask
from pipelines.progress import ShardProgress
from pipelines.stage import (
    Outcome,
    ShardStep,
    StageManifest,
    known_records,
    load_rejects,
    load_stage,
    publish_stage,
    read_media_rows,
    read_rows,
    run_stage,
    tasks_per_shard,
)


def _make(task: ShardTask, step: Doubling) -> Any:
    return ShardStep(step)(task, ShardProgress(task.progress_path))


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_shard_step_counts_what_goes_in_and_out(tmp_path: Path) -> None:
    task = shard_task(tmp_path, ["a", "b", "c"])
    record = _make(task, Doubling(rejected=frozenset("b")))

    assert read_shard(task.path).column("key").to_pylist() == ["a", "a/again", "c", "c/again"]
    assert (record.num_in, record.shard.num_rows) == (3, 4)
    assert [reject.key for reject in record.rejects] == ["b"]
    assert task.progress_path.read_text() == "3 1"


def test_shard_step_of_rejects_alone_is_an_empty_shard(tmp_path: Path) -> None:
    task = shard_task(tmp_path, ["a", "b"])
    record = _make(task, Doubling(rejected=frozenset("ab")))

    assert (record.shard.num_rows, record.shard.first_key) == (0, None)
    assert read_shard(task.path).schema == SCHEMA


def test_shard_step_refuses_a_sample_that_goes_without_a_word(tmp_path: Path) -> None:
    task = shard_task(tmp_path, ["a", "b", "c"])

    with pytest.raises(StageError, match="sample 'b' would be lost without a reason"):
        _make(task, Doubling(lost="b"))
    assert not task.path.exists()


def test_shard_step_refuses_a_shard_of_another_size(tmp_path: Path) -> None:
    task = shard_task(tmp_path, ["a", "b", "c"])
    task.inputs[0].append("d")

    with pytest.raises(StageError, match="had 4 samples to read, not 3: run the stage before"):
        _make(task, Doubling())
    assert not task.path.exists()


def test_publish_stage_keeps_what_stands_and_removes_what_is_stale(tmp_path: Path) -> None:
    run_doubling(tmp_path, Doubling())
    before = _bytes(tmp_path)
    (tmp_path / "stale.arrow").touch()
    (tmp_path / ".cut-off.arrow.1-2.tmp").touch()
    written = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*-*.arrow")}

    run_doubling(tmp_path, Doubling())
    assert _bytes(tmp_path) == before
    assert {path: path.stat().st_mtime_ns for path in written} == written


def test_publish_stage_keeps_the_rejects_of_shards_that_are_not_made_again(tmp_path: Path) -> None:
    run_doubling(tmp_path, Doubling(rejected=frozenset([KEYS[0], KEYS[-1]])))
    before = load_rejects(tmp_path)
    run_doubling(tmp_path, Doubling(rejected=frozenset([KEYS[0], KEYS[-1]])))

    assert [reject.key for reject in before] == [KEYS[0], KEYS[-1]]
    assert load_rejects(tmp_path) == before


def test_publish_stage_replaces_the_manifest_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = run_doubling(tmp_path, Doubling())
    manifest = (tmp_path / MANIFEST_FILE).read_bytes()
    rename = os.replace

    def full_at_the_manifest(source: Path, target: Path) -> None:
        if target.name == MANIFEST_FILE:
            raise OSError(errno.ENOSPC, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(os, "replace", full_at_the_manifest)
    with pytest.raises(OSError, match="No space left"):
        publish_stage(tmp_path, stage="double", settings={}, records=old[:1], before=tmp_path / "nothing")

    assert (tmp_path / MANIFEST_FILE).read_bytes() == manifest
    for record in load_stage(tmp_path).records:  # a reader of the old version finds all of it
        assert read_shard(tmp_path / record.shard.file).num_rows == record.shard.num_rows
    assert not list(tmp_path.glob(".*.tmp"))


def test_load_stage_names_the_stage_that_has_not_run(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"stage 'clean' has not finished: run 'dvc repro clean'"):
        load_stage(tmp_path / "clean")
    assert known_records(tmp_path / "clean") == {}
    assert load_rejects(tmp_path / "clean") == []


@dataclass(frozen=True)
class Upper:
    """Rewrites the shards of the stage before; one key is rejected."""

    rejected: frozenset[str]
    schema: ClassVar[pa.Schema] = SCHEMA

    def read(self, inputs: Any) -> Iterable[MediaRow]:
        return read_rows(inputs.check())

    def __call__(self, row: MediaRow) -> Outcome:
        if row["key"] in self.rejected:
            return [], [Reject(row["key"], "upper", "too_short", "sample", "0 s")]
        return [{**row, "text": row["key"].upper()}], []


def _run_upper(tmp_path: Path, *rejected: str, max_reject_ratio: float = 0.2) -> StageManifest:
    before, folder = tmp_path / "double", tmp_path / "upper"

    def plan(manifest: StageManifest) -> list[ShardTask]:
        return tasks_per_shard(manifest, before, folder, {"rejected": rejected})

    run_stage(
        "upper",
        Upper(frozenset(rejected)),
        plan,
        before=before,
        folder=folder,
        settings={"rejected": rejected},
        max_reject_ratio=max_reject_ratio,
        beam=local_beam(),
    )
    return load_stage(folder)


def test_run_stage_hands_on_shards_settings_and_rejects(tmp_path: Path) -> None:
    run_doubling(tmp_path / "double", Doubling(rejected=frozenset([KEYS[3]])))
    manifest = _run_upper(tmp_path, KEYS[5])

    assert [shard.name for shard in manifest.shards] == [shard.name for shard in load_stage(tmp_path / "double").shards]
    assert list(manifest.steps) == ["double", "upper"]
    assert [(reject.key, reject.stage) for reject in load_rejects(tmp_path / "upper")] == [
        (KEYS[3], "double"),
        (KEYS[5], "upper"),
    ]
    assert sum(shard.num_rows for shard in manifest.shards) == 2 * (len(KEYS) - 1) - 1
    assert not (tmp_path / "upper" / WORK_FOLDER).exists()


def test_run_stage_publishes_nothing_above_the_ratio(tmp_path: Path) -> None:
    run_doubling(tmp_path / "double", Doubling())
    _run_upper(tmp_path)
    before = _bytes(tmp_path / "upper")

    with pytest.raises(RejectRatioError, match=r"upper rejected 3 of 48 .*too_short 3"):
        _run_upper(tmp_path, *KEYS[:3], max_reject_ratio=0.05)
    after = _bytes(tmp_path / "upper")
    assert {name: after[name] for name in before} == before
    # The same again with a higher ratio takes up what was made.
    assert sum(len(record.rejects) for record in _run_upper(tmp_path, *KEYS[:3]).records) == 3


def test_tasks_per_shard_change_with_settings_and_content(tmp_path: Path) -> None:
    run_doubling(tmp_path / "double", Doubling())
    manifest = load_stage(tmp_path / "double")

    def files(settings: dict[str, Any]) -> list[str]:
        return [task.file for task in tasks_per_shard(manifest, tmp_path / "double", tmp_path / "out", settings)]

    assert files({"a": 1}) == files({"a": 1})
    assert not set(files({"a": 1})) & set(files({"a": 2}))


def test_read_rows_takes_rising_indices_across_batches(tmp_path: Path) -> None:
    path = tmp_path / "shard.arrow"
    with shard_writer(path, SCHEMA) as writer:
        for number, key in enumerate("abcdef"):
            writer.append({"key": key, "text": None})
            if number % 2:
                writer.flush()

    assert [row["key"] for row in read_rows(path)] == list("abcdef")
    assert [row["key"] for row in read_rows(path, [1, 2, 5])] == ["b", "c", "f"]
    assert list(read_rows(path, [])) == []


def test_read_media_rows_names_what_an_older_shard_lacks(tmp_path: Path) -> None:
    path = tmp_path / "shard.arrow"
    older = pa.schema([field for field in MEDIA_SCHEMA if field.name not in ("words", "cues")])
    with shard_writer(path, older) as writer:
        row = media_row(key="a", recording="a", group="a", split="train", variant=0, source_digest="0")
        writer.append({name: row[name] for name in older.names})

    with pytest.raises(StageError, match=r"shard .* is of an older Plait \(without cues, words\): run 'dvc repro'"):
        list(read_media_rows(path))


def test_stage_manifest_is_json_that_other_tools_read(tmp_path: Path) -> None:
    run_doubling(tmp_path, Doubling(rejected=frozenset([KEYS[0]])))
    content = json.loads((tmp_path / MANIFEST_FILE).read_bytes())

    assert content["stage"] == "double"
    assert content["records"][0]["rejects"][0]["reason"] == "empty"
    assert pa.ipc.open_file(tmp_path / content["records"][-1]["shard"]["file"]).read_all().num_rows > 0
