import hashlib
import io
import json
import random
import tarfile
from pathlib import Path
from typing import Any

import fsspec
import pyarrow.parquet as pq
import pytest
from shard_work import local_beam

from features.errors import PlaitError, RejectRatioError
from features.manifest import REJECTS_FILE
from pipelines.ingest import (
    RAW_MANIFEST,
    ingest,
    load_recordings,
)
from pipelines.job import Reject
from pipelines.params import IngestParams, SplitParams
from pipelines.raw import RAW_SCHEMA, read_file
from pipelines.stage import load_rejects

SPLIT = SplitParams(val=0.15, test=0.15, seed=0)


def _ingest(
    source: Path | str, folder: Path, max_reject_ratio: float = 1.0, columns: dict[str, str] | None = None
) -> tuple[dict[str, dict[str, Any]], list[Reject]]:
    params = IngestParams(source=str(source), columns=columns or {}, split=SPLIT, max_reject_ratio=max_reject_ratio)
    ingest(params, folder, local_beam())
    return {row["key"]: row for row in load_recordings(folder)}, load_rejects(folder)


def _error(source: Path | str, folder: Path, **changes: Any) -> str:
    with pytest.raises(PlaitError) as raised:
        _ingest(source, folder, **changes)
    assert not (folder / RAW_MANIFEST).exists()
    return str(raised.value)


def _manifest(folder: Path, content: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.csv").write_text(content, encoding="utf-8")
    return folder


def _facts(rejects: list[Reject]) -> list[tuple[str, str, str]]:
    return [(reject.key, reject.reason, reject.dropped) for reject in rejects]


def test_ingest_writes_sizes_and_digests(tmp_path: Path) -> None:
    source = tmp_path / "data"
    (source / "talks").mkdir(parents=True)
    (source / "talks" / "a.mp4").write_bytes(b"video" * 300_000)
    (source / "talks" / "a.srt").write_bytes(b"")
    rows, rejects = _ingest(source, tmp_path / "out")

    assert rejects == []
    assert rows["talks/a"]["video"] == {
        "uri": f"{source}/talks/a.mp4",
        "suffix": ".mp4",
        "offset": None,
        "size": 1_500_000,
        "digest": hashlib.sha256(b"video" * 300_000).hexdigest(),
    }
    assert rows["talks/a"]["transcript"]["size"] == 0
    assert (rows["talks/a"]["group"], rows["talks/a"]["image"]) == ("talks/a", None)
    assert pq.read_schema(tmp_path / "out" / RAW_MANIFEST).names == RAW_SCHEMA.names
    assert {path.name for path in (tmp_path / "out").iterdir()} == {RAW_MANIFEST, REJECTS_FILE}


def test_ingest_measures_members_of_tars_where_they_lie(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, content in (("one.jpg", b"1" * 700), ("two.jpg", b"2" * 900)):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    rows = _ingest(tmp_path / "a.tar", tmp_path / "out")[0]

    assert rows["two"]["image"]["digest"] == hashlib.sha256(b"2" * 900).hexdigest()
    assert read_file(rows["two"]["image"]) == b"2" * 900


def test_ingest_reads_any_filesystem_of_fsspec(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe({"/talks/a.wav": b"wave", "/talks/a.txt": b"hello"})
    try:
        row = _ingest("memory://talks", tmp_path / "out")[0]["a"]
        assert row["text"] == "hello"
        assert row["audio"]["digest"] == hashlib.sha256(b"wave").hexdigest()
    finally:
        memory.rm("/talks", recursive=True)


def test_ingest_gives_equal_bytes_again_and_in_any_order_of_listing(tmp_path: Path) -> None:
    rows = [{"key": f"s{number:02d}", "text": "x", "take": number, "group": number % 5 or None} for number in range(30)]
    rows += [
        {"key": f"c{number}", "audio": f"{number % 2}/a.wav", "start_s": number, "end_s": 9} for number in range(6)
    ]
    rows += [{"key": "gone", "audio": "gone.wav"}, {"key": "bare"}]
    outcomes = []
    for run in range(3):
        source = tmp_path / "data"
        for number in range(2):
            (source / str(number)).mkdir(parents=True, exist_ok=True)
            (source / str(number) / "a.wav").write_bytes(bytes([number]))
        if run:
            random.Random(run).shuffle(rows)
        (source / "manifest.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        _ingest(source, tmp_path / f"out{run}")
        outcomes.append((tmp_path / f"out{run}" / RAW_MANIFEST).read_bytes())
        assert _facts(load_rejects(tmp_path / f"out{run}")) == [
            ("bare", "empty", "sample"),
            ("gone", "missing_file", "sample"),
        ]

    assert outcomes[0] == outcomes[1] == outcomes[2]
    _ingest(tmp_path / "data", tmp_path / "out0")
    assert (tmp_path / "out0" / RAW_MANIFEST).read_bytes() == outcomes[0]


def test_ingest_sees_a_file_that_changed_under_its_name(tmp_path: Path) -> None:
    source = tmp_path / "data"
    source.mkdir()
    (source / "a.wav").write_bytes(b"old")
    before = _ingest(source, tmp_path / "out")[0]["a"]
    (source / "a.wav").write_bytes(b"new")

    assert _ingest(source, tmp_path / "out")[0]["a"]["audio"]["digest"] != before["audio"]["digest"]


def test_ingest_removes_what_a_killed_run_left(tmp_path: Path) -> None:
    (tmp_path / "out" / ".work").mkdir(parents=True)
    (tmp_path / "out" / ".work" / "old.json").touch()
    (tmp_path / "out" / f".{RAW_MANIFEST}.1-2.tmp").touch()
    _ingest(_manifest(tmp_path / "data", "key,text\na,b\n"), tmp_path / "out")

    assert {path.name for path in (tmp_path / "out").iterdir()} == {RAW_MANIFEST, REJECTS_FILE}


def test_ingest_rejects_a_missing_file_naming_row_column_and_file(tmp_path: Path) -> None:
    source = _manifest(tmp_path / "data", "key,audio,image\na,a.wav,b.png\n")
    (source / "a.wav").write_bytes(b"w")
    with pytest.raises(RejectRatioError, match=r"ingest rejected 1 of 1 \(100%\).*reasons: missing_file 1"):
        _ingest(source, tmp_path / "out", max_reject_ratio=0.2)

    (source / "manifest.csv").write_text("key,audio,image\na,a.wav,b.png\nc,a.wav,\n")
    reject = _ingest(source, tmp_path / "out")[1][0]
    assert (reject.key, reject.reason) == ("a", "missing_file")
    assert f"{source}/manifest.csv, row 1, column image: '{source}/b.png' does not exist" in reject.text


def test_ingest_rejects_files_that_cannot_be_read(tmp_path: Path) -> None:
    content = "key,text,audio\na,ok,\nb,,folder.wav\nc,,nope://x.wav\nd,,\0.wav\n"
    source = _manifest(tmp_path / "data", content)
    (source / "folder.wav").mkdir()
    rejects = _ingest(source, tmp_path / "out")[1]

    assert _facts(rejects) == [(key, "unreadable", "sample") for key in "bcd"]
    assert "Is a directory" in rejects[0].text
    assert "Protocol not known: nope" in rejects[1].text


def test_ingest_rejects_every_sample_of_a_recording_that_is_gone(tmp_path: Path) -> None:
    """Two of four samples are lost though it is one file: they are named, and the ratio counts them."""
    content = "key,audio,start_s,end_s\na,gone.wav,0,1\nb,gone.wav,1,2\nc,there.wav,0,1\nd,there.wav,1,2\n"
    source = _manifest(tmp_path / "data", content)
    (source / "there.wav").write_bytes(b"w")

    assert "ingest rejected 2 of 4 (50%)" in _error(source, tmp_path / "out", max_reject_ratio=0.4)
    assert _facts(_ingest(source, tmp_path / "out")[1]) == [(key, "missing_file", "sample") for key in "ab"]


@pytest.mark.parametrize(
    ("row", "reason", "said"),
    [
        ("a,,1,2", "empty", "row 1: it has no text, image, audio or video"),
        ("a,x,1,", "bad_interval", "row 1: start_s is 1.0 and end_s None: give both or neither"),
        ("a,x,,2", "bad_interval", "row 1: start_s is None and end_s 2.0: give both or neither"),
        ("a,x,2,1", "bad_interval", "row 1: 2.0 to 1.0 s is no interval"),
        ("a,x,1,1", "bad_interval", "row 1: 1.0 to 1.0 s is no interval"),
        ("a,x,-1,1", "bad_interval", "row 1: -1.0 to 1.0 s is no interval"),
    ],
)
def test_ingest_rejects_a_row_that_cannot_be_used(tmp_path: Path, row: str, reason: str, said: str) -> None:
    source = _manifest(tmp_path / "data", f"key,text,start_s,end_s\n{row}\nz,fine,,\n")
    rows, rejects = _ingest(source, tmp_path / "out")

    assert list(rows) == ["z"]
    assert _facts(rejects) == [("a", reason, "sample")]
    assert said in rejects[0].text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("key,text\na,x\nb,y\na,z\n", "key 'a' comes twice, at {source}, row 1 and at {source}, row 3"),
        ("key,text,split\na,x,tset\n", "{source}, row 1: split is 'tset'; it must be one of train, val, test"),
        ("key,text\nrec~1,x\n", "{source}, row 1: key 'rec~1' must not be empty nor hold '~'"),
        ("key,text,group,split\na,x,g,train\nb,y,g,test\n", "group 'g' has 'a' in train and 'b' in test"),
    ],
)
def test_ingest_refuses_a_manifest_that_contradicts_itself(tmp_path: Path, content: str, said: str) -> None:
    source = _manifest(tmp_path / "data", content)

    assert said.format(source=f"{source}/manifest.csv") in _error(source, tmp_path / "out")


def test_ingest_refuses_a_source_with_nothing_left(tmp_path: Path) -> None:
    source = _manifest(tmp_path / "data", "key,audio\na,gone.wav\n")

    assert "has no usable sample; first: " in _error(source, tmp_path / "out")
