import datetime
import json
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.errors import ConfigError, PlaitError
from pipelines.job import Reject
from pipelines.raw import RawSample
from pipelines.sources.listing import list_source


def _list(source: Path | str, columns: dict[str, str] | None = None) -> tuple[dict[str, RawSample], list[Reject]]:
    samples, rejects = list_source(str(source), columns or {})
    return {sample.key: sample for sample in samples}, rejects


def _csv(folder: Path, content: str | bytes) -> Path:
    path = folder / "manifest.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _jsonl(folder: Path, *rows: Any) -> Path:
    path = folder / "manifest.jsonl"
    path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), encoding="utf-8")
    return path


def _parquet(folder: Path, **columns: Any) -> Path:
    path = folder / "manifest.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def _error(source: Path, columns: dict[str, str] | None = None) -> str:
    with pytest.raises(PlaitError) as raised:
        _list(source, columns)
    return str(raised.value)


def test_csv_keeps_every_cell_as_it_is_written(tmp_path: Path) -> None:
    samples, rejects = _list(_csv(tmp_path, "key,text,label,group,take\n007,NA,1e3,0.50,true\n"))

    assert rejects == []
    sample = samples["007"]
    assert (sample.text, sample.label, sample.group, sample.meta) == ("NA", "1e3", "0.50", {"take": "true"})
    assert sample.where == f"{tmp_path}/manifest.csv, row 1"


def test_csv_takes_a_byte_order_mark_windows_lines_and_newlines_in_quotes(tmp_path: Path) -> None:
    content = '\ufeffkey,text\r\na,"one\r\ntwo, ""three"""\r\n\r\nb,four\r\n'
    samples = _list(_csv(tmp_path, content))[0]

    assert samples["a"].text == 'one\r\ntwo, "three"'
    assert samples["b"].text == "four"


def test_csv_takes_an_empty_cell_for_an_absent_one(tmp_path: Path) -> None:
    samples, rejects = _list(_csv(tmp_path, 'key,text,audio,label,start_s,end_s,take\na,,x.wav,"",,,\n'))

    assert rejects == []
    sample = samples["a"]
    assert (sample.text, sample.label, sample.start_s, sample.end_s, sample.meta) == (None, None, None, None, {})
    assert list(sample.files) == ["audio"]


def test_csv_takes_a_text_of_any_length(tmp_path: Path) -> None:
    text = "x" * 3_000_000

    assert _list(_csv(tmp_path, f"key,text\na,{text}\nb,{text}\n"))[0]["b"].text == text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is no readable csv table (Empty CSV file)"),
        ("key,text\na\n", "Expected 2 columns, got 1"),
        ("key,text\na,caf\u00e9\n".encode("latin-1"), "invalid UTF8 data"),
        ("key,text,text\na,b,c\n", "two columns of one name, among key, text, text"),
        ("key,text\n,b\n", "row 1, column 'key': the key is empty: every row needs one"),
        ("id,text\na,b\n", "has no column 'key': add one, or name yours in ingest.columns. It has: id, text"),
        ("key,caption\na,b\n", "has no column text, image, audio or video: name yours in ingest.columns"),
        ("key,text\n", "holds no samples"),
    ],
)
def test_csv_that_cannot_be_used_is_an_error(tmp_path: Path, content: str | bytes, said: str) -> None:
    assert said in _error(_csv(tmp_path, content))


def test_columns_name_ours_for_theirs(tmp_path: Path) -> None:
    path = _csv(tmp_path, "id,utterance,emotion,label\na,hello,joy,x\n")
    sample = _list(path, {"key": "id", "text": "utterance", "label": "emotion"})[0]["a"]

    assert (sample.text, sample.label, sample.meta) == ("hello", "joy", {"label": "x"})


def test_columns_may_take_one_of_theirs_twice(tmp_path: Path) -> None:
    sample = _list(_csv(tmp_path, "key,text,speaker\na,b,s1\n"), {"group": "speaker", "label": "speaker"})[0]["a"]

    assert (sample.group, sample.label, sample.meta) == ("s1", "s1", {})


def test_columns_of_ours_that_do_not_exist_are_an_error(tmp_path: Path) -> None:
    path = _csv(tmp_path, "key,text\na,b\n")

    with pytest.raises(ConfigError, match=r"ingest.columns: 'lable' is no column of a sample; did you mean 'label'\?"):
        _list(path, {"lable": "text"})


def test_columns_of_no_manifest_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")

    with pytest.raises(ConfigError, match=r"ingest.columns names label, and .* has no manifest with columns: make it"):
        _list(tmp_path, {"label": "emotion"})


def test_columns_of_theirs_that_do_not_exist_are_an_error(tmp_path: Path) -> None:
    text = _error(_csv(tmp_path, "key,text,emotion\na,b,c\n"), {"label": "emotoin"})

    assert "has no column 'emotoin', which ingest.columns names for 'label'; the nearest is 'emotion'" in text


def test_jsonl_keeps_strings_and_numbers(tmp_path: Path) -> None:
    rows = (
        {"key": "007", "text": "a\u2028b\u0085c", "label": 3, "x": {"y": [1, None]}},
        {"key": 8, "text": "d", "start_s": 1, "end_s": "2.5", "group": None},
    )
    samples, rejects = _list(_jsonl(tmp_path, *rows))

    assert rejects == []
    assert samples["007"].text == "a\u2028b\u0085c"  # separators of lines to Python, but not to JSON
    assert (samples["007"].label, samples["007"].meta) == ("3", {"x": {"y": [1, None]}})
    assert (samples["8"].start_s, samples["8"].end_s, samples["8"].group) == (1.0, 2.5, None)


def test_jsonl_takes_a_byte_order_mark_windows_lines_and_blank_ones(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_bytes('\ufeff{"key": "a", "text": "b"}\r\n\r\n{"key": "c", "text": "d"}'.encode())

    assert sorted(_list(path)[0]) == ["a", "c"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"key": "a", "text": "b"}\n{"key": \n', "is no readable jsonl table (line 2: Expecting value"),
        ('{"key": "a", "text": "b"}\n[1]\n', "line 2 is a list, not an object"),
    ],
)
def test_jsonl_that_cannot_be_read_names_the_line(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_text(content)

    assert said in _error(path)


def test_parquet_keeps_types_as_text_and_other_columns_as_they_are(tmp_path: Path) -> None:
    date = datetime.date(2024, 2, 29)
    path = _parquet(
        tmp_path, key=pa.array([7]), text=pa.array([b"bytes of text"]), label=pa.array([3]), day=pa.array([date])
    )
    sample = _list(path)[0]["7"]

    assert (sample.text, sample.label, sample.meta) == ("bytes of text", "3", {"day": date})


def test_parquet_takes_nan_for_an_absent_cell(tmp_path: Path) -> None:
    path = _parquet(tmp_path, key=["a"], text=["t"], group=[float("nan")], start_s=[float("nan")], score=[float("nan")])
    sample = _list(path)[0]["a"]

    assert (sample.group, sample.start_s, sample.meta) == (None, None, {})


def test_parquet_that_is_none_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "manifest.parquet").write_bytes(b"PAR1 not")

    assert "manifest.parquet is no readable parquet table" in _error(tmp_path / "manifest.parquet")


@pytest.mark.parametrize(
    ("row", "reason", "said"),
    [
        ({"start_s": "soon", "end_s": 2}, "bad_interval", "row 2, column 'start_s': 'soon' is no time in seconds"),
        ({"start_s": 1, "end_s": [2]}, "bad_interval", "row 2, column 'end_s': [2] is no time in seconds"),
        ({"start_s": 1, "end_s": "inf"}, "bad_interval", "row 2, column 'end_s': 'inf' is no time in seconds"),
        ({"audio": {"bytes": "..."}}, "missing_file", "row 2, column 'audio': {'bytes': '...'} is no path"),
        ({"text": ["a", "b"]}, "undecodable", "row 2, column 'text': ['a', 'b'] must be a string or a number"),
    ],
)
def test_cell_that_cannot_be_used_makes_its_row_a_reject(
    tmp_path: Path, row: dict[str, Any], reason: str, said: str
) -> None:
    path = _jsonl(tmp_path, {"key": "a", "text": "b"}, {"key": "c", "text": "d", **row})
    samples, rejects = _list(path)

    assert list(samples) == ["a"]
    assert [(reject.key, reject.reason, reject.dropped) for reject in rejects] == [("c", reason, "sample")]
    assert said in rejects[0].text


def test_paths_start_from_the_manifest(tmp_path: Path) -> None:
    path = _csv(tmp_path, "key,image,audio,video\na,x/a.png,/abs/a.wav,s3://bucket/a.mp4\n")
    files = _list(path)[0]["a"].files

    assert files["image"]["uri"] == f"{tmp_path}/x/a.png"
    assert files["audio"]["uri"] == "/abs/a.wav"
    assert files["video"]["uri"] == "s3://bucket/a.mp4"
    assert _list(tmp_path)[0]["a"].files == files  # a folder that holds a manifest is read through it


def test_paths_start_from_a_manifest_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _csv(tmp_path, "key,audio\na,a.wav\n")
    monkeypatch.chdir(tmp_path)

    assert _list("manifest.csv")[0]["a"].files["audio"]["uri"] == "./a.wav"


def test_manifest_is_read_from_any_filesystem_of_fsspec() -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/set/manifest.jsonl", b'{"key": "a", "audio": "a.wav"}')
    try:
        for source in ("memory://set/manifest.jsonl", "memory://set"):
            assert _list(source)[0]["a"].files["audio"]["uri"] == "memory://set/a.wav"
    finally:
        memory.rm("/set", recursive=True)


def test_recording_is_the_path_without_its_suffix(tmp_path: Path) -> None:
    path = _csv(tmp_path, "key,text,audio,video\na,,x.v1/one.wav,\nb,,one.wav,two.mp4\nc,text,,\n")
    samples = _list(path)[0]

    assert [samples[key].recording for key in "abc"] == ["x.v1/one", "two", None]
