import hashlib
import io
import json
import random
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shard_work import local_beam

from features.errors import ConfigError, PlaitError, RejectRatioError, SourceError
from features.manifest import REJECTS_FILE
from features.reasons import MediaError, Reason
from pipelines.ingest import (
    RAW_MANIFEST,
    assign_splits,
    gather_recordings,
    ingest,
    load_recordings,
    measure_file,
    split_of,
)
from pipelines.job import Reject
from pipelines.params import IngestParams, SplitParams
from pipelines.raw import RAW_SCHEMA, RawSample, check_key, content_digest, file_ref, read_file, sources_of
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


def _segment(key: str, start_s: float, uri: str = "a.wav", **fields: Any) -> RawSample:
    files = {"audio": file_ref(uri), **fields.pop("files", {})}
    recording = uri.rpartition(".")[0]
    return RawSample(key, f"row {key}", recording, start_s=start_s, end_s=start_s + 1, files=files, **fields)


def test_ingest_writes_sizes_and_digests(tmp_path: Path) -> None:
    source = tmp_path / "data"
    (source / "talks").mkdir(parents=True)
    (source / "talks" / "a.mp4").write_bytes(b"video" * 300_000)
    (source / "talks" / "a.srt").write_bytes(b"")
    rows, rejects = _ingest(source, tmp_path / "out")

    assert rejects == []
    assert rows["talks/a"]["video"] == {
        "uri": f"{source}/talks/a.mp4",
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


@pytest.mark.parametrize("key", ["", "a~1", "a\nb", "a\0", "caf\udce9"])
def test_check_key_refuses_what_cannot_name_a_sample(key: str) -> None:
    with pytest.raises(SourceError, match="row 7: key"):
        check_key(key, "row 7")


@pytest.mark.parametrize("key", ["007", "rec7/0003", "v1.0/a b", "日本", " "])
def test_check_key_takes_paths_and_any_script(key: str) -> None:
    check_key(key, "row 7")


def test_gather_makes_one_recording_of_the_rows_that_cut_it() -> None:
    segments = [_segment("b", 2.0, label="yes"), _segment("a", 0.5, text="hi", meta={"take": 1}), _segment("c", 2.0)]
    (row,) = gather_recordings(segments)

    assert (row["key"], row["group"], row["text"], row["label"]) == ("a", "a", None, None)
    assert [(span["key"], span["start_s"], span["end_s"]) for span in row["intervals"]] == [
        ("a", 0.5, 1.5),
        ("b", 2.0, 3.0),
        ("c", 2.0, 3.0),
    ]
    assert row["intervals"][0] == {
        "key": "a",
        "start_s": 0.5,
        "end_s": 1.5,
        "text": "hi",
        "label": None,
        "meta": '{"take": 1}',
    }


def test_gather_names_recordings_by_their_path() -> None:
    rows = gather_recordings([_segment("1", 0, "x/rec.wav"), _segment("2", 0, "y/rec.wav")])

    assert [row["key"] for row in rows] == ["x/rec", "y/rec"]


def test_gather_tells_recordings_of_one_name_apart_and_keeps_their_group() -> None:
    samples = [
        _segment("1", 0, files={"image": file_ref("1.png")}),
        _segment("2", 1, files={"image": file_ref("2.png")}),
        RawSample("a", "row 3", text="of the name of the recording"),
    ]
    rows = gather_recordings(samples)
    names = {row["key"]: row["group"] for row in rows}

    assert len(names) == 3
    assert names.pop("a") is None
    assert all(name.startswith("a@") for name in names)
    assert set(names.values()) == {"a"}
    assert gather_recordings(samples[::-1]) == rows


def test_gather_keeps_samples_that_have_no_timeline_to_cut() -> None:
    text = RawSample("a", "row 1", text="hi", label="yes", start_s=1.0, end_s=2.0)
    image = RawSample("b", "row 2", label="no", start_s=1.0, end_s=2.0, files={"image": file_ref("rec.png")})
    rows = gather_recordings([image, text])

    assert [(row["key"], row["label"], row["intervals"][0]["end_s"]) for row in rows] == [
        ("a", "yes", 2.0),
        ("b", "no", 2.0),
    ]


@pytest.mark.parametrize("field", ["group", "split"])
def test_gather_refuses_segments_of_one_recording_that_differ(field: str) -> None:
    segments = [_segment("1", 0, **{field: "test"}), _segment("2", 1, **{field: "train"})]

    with pytest.raises(
        SourceError, match=f"row 1 and others cut one recording, but give it {field} 'test' and 'train'"
    ):
        gather_recordings(segments)


def test_gather_keeps_meta_of_any_type_as_json() -> None:
    values = {
        "bytes": b"\xff",
        "nan": [1.5, float("nan"), float("inf")],
        "date": Path("2024"),
        "nested": {"b": True, "a": None},
    }
    (row,) = gather_recordings([RawSample("a", "row 1", text="x", meta=values)])

    assert json.loads(row["meta"], parse_constant=pytest.fail) == {
        "bytes": "/w==",
        "nan": [1.5, None, "inf"],
        "date": "2024",
        "nested": {"a": None, "b": True},
    }


def test_gather_writes_halves_of_characters_as_question_marks() -> None:
    (row,) = gather_recordings([RawSample("a", "row 1", text="x\ud83d", label="\udc00", meta={"n": "\ud800"})])

    assert (row["text"], row["label"], row["meta"]) == ("x?", "?", '{"n": "?"}')
    pa.Table.from_pylist([{**row, "group": "g", "split": "train"}], schema=RAW_SCHEMA)


def _rows(groups: list[str]) -> list[dict[str, Any]]:
    return [{"key": f"{number}", "group": group, "split": None} for number, group in enumerate(groups)]


@given(st.lists(st.text(max_size=5), max_size=20), st.lists(st.text(max_size=5), max_size=20), st.integers(0, 5))
def test_splits_are_not_reassigned_by_growth(old: list[str], new: list[str], seed: int) -> None:
    params = SplitParams(val=0.3, test=0.3, seed=seed)
    before = [row["split"] for row in assign_splits(_rows(old), params)]
    after = [row["split"] for row in assign_splits(_rows([*old, *new]), params)]

    assert after[: len(before)] == before


@given(st.lists(st.text(min_size=1, max_size=2), max_size=30))
def test_splits_never_straddle_a_group(groups: list[str]) -> None:
    rows = assign_splits(_rows(groups), SplitParams(val=0.3, test=0.3, seed=1))

    assert len({(row["group"], row["split"]) for row in rows}) == len(set(groups))


def test_splits_come_near_their_shares() -> None:
    counts = Counter(split_of(f"speaker{number}", SPLIT) for number in range(4_000))

    assert 540 < counts["test"] < 660
    assert 540 < counts["val"] < 660


# A group that changed its split would have been trained on and be tested on: these values may not change.
def test_splits_are_pinned() -> None:
    assert [split_of(f"rec{number}", SPLIT)[:2] for number in range(12)] == [
        "va",
        "tr",
        "te",
        "tr",
        "va",
        "tr",
        "tr",
        "tr",
        "tr",
        "tr",
        "tr",
        "tr",
    ]


def test_splits_grow_from_val_into_train_and_never_from_test() -> None:
    groups = [f"rec{number}" for number in range(500)]
    small = {group: split_of(group, SPLIT) for group in groups}
    large = {group: split_of(group, SplitParams(val=0.4, test=0.15, seed=0)) for group in groups}

    assert all(large[group] == split for group, split in small.items() if split != "train")


def test_a_split_that_is_given_counts_for_its_whole_group() -> None:
    rows: list[dict[str, Any]] = [
        {"key": "a", "group": "g", "split": None},
        {"key": "b", "group": "g", "split": "val"},
        {"key": "c", "group": None, "split": "test"},
    ]

    assert [(row["group"], row["split"]) for row in assign_splits(rows, SPLIT)] == [
        ("g", "val"),
        ("g", "val"),
        ("c", "test"),
    ]


def test_shares_that_leave_nothing_for_train_are_an_error() -> None:
    with pytest.raises(ConfigError, match=r"ingest\.split: val 0\.5 and test 0\.5 leave nothing for train"):
        assign_splits([], SplitParams(val=0.5, test=0.5, seed=0))


def test_measure_file_notices_a_member_that_breaks_off(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(bytes(100))

    assert measure_file(file_ref("a.tar", offset=90, size=10), str(tmp_path))["size"] == 10
    with pytest.raises(MediaError, match="ends 5 bytes before its member does") as raised:
        measure_file(file_ref("a.tar", offset=95, size=10), str(tmp_path))
    assert raised.value.reason == Reason.TRUNCATED


def test_read_file_takes_a_local_name_as_it_is(tmp_path: Path) -> None:
    for name in ("a::b.wav", "a*b.wav", "a#b?.wav", "a.wav.gz"):
        (tmp_path / name).write_bytes(name.encode())
        assert read_file(file_ref(name), str(tmp_path)) == name.encode()


def _recording(**fields: Any) -> dict[str, Any]:
    files = dict.fromkeys(("image", "audio", "video", "transcript", "labels"))
    return {"text": None, "intervals": None, **files, **fields}


def test_content_digest_sees_media_and_text_but_no_names() -> None:
    image = {"uri": "a.png", "digest": "d1"}
    one = content_digest(_recording(key="a", image=image, text="a cat", transcript={"digest": "t1"}))

    same = _recording(key="b", image={**image, "uri": "b.png"}, text="a cat", transcript={"digest": "t2"})
    assert content_digest(same) == one
    assert content_digest(_recording(image=image, text="a dog")) != one
    assert content_digest(_recording(image={"digest": "d2"}, text="a cat")) != one
    assert content_digest(_recording(audio=image, text="a cat")) != one


def test_sources_of_lists_files_in_a_fixed_order() -> None:
    row = _recording(labels={"uri": "a.labels.csv", "digest": "2"}, audio={"uri": "a.wav", "digest": "1"})

    assert sources_of(row)[0] == "a.wav a.labels.csv"
    assert sources_of(row)[1] != sources_of({**row, "labels": None})[1]
