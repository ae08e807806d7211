import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from features.errors import SourceError
from pipelines.job import Reject
from pipelines.raw import RawSample, file_ref
from pipelines.sources.listing import list_source


def _list(source: Path | str) -> tuple[dict[str, RawSample], list[Reject]]:
    samples, rejects = list_source(str(source), {})
    return {sample.key: sample for sample in samples}, rejects


def _write(folder: Path, **contents: str | bytes) -> None:
    """Write files; a name's double underscore is a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name.replace("__", ".")).write_bytes(content.encode() if isinstance(content, str) else content)


def _facts(rejects: list[Reject]) -> list[tuple[str, str, str]]:
    return [(reject.key, reject.reason, reject.dropped) for reject in rejects]


def test_folder_joins_files_of_one_stem(tmp_path: Path) -> None:
    _write(
        tmp_path, a__mp4=b"v", a__wav=b"w", a__srt="1", a__labels__csv="start_s", a__JPG=b"j", a__txt="\ufeffhello\r\n"
    )
    samples, rejects = _list(tmp_path)

    assert rejects == []
    assert {column: Path(ref["uri"]).name for column, ref in samples["a"].files.items()} == {
        "video": "a.mp4",
        "audio": "a.wav",
        "transcript": "a.srt",
        "labels": "a.labels.csv",
        "image": "a.JPG",
    }
    assert samples["a"].text == "hello"
    assert samples["a"].files["video"] == file_ref(f"{tmp_path}/a.mp4")


def test_folder_spreads_a_json_file_over_the_sample(tmp_path: Path) -> None:
    _write(
        tmp_path,
        a__mp4=b"v",
        a__json='{"label": 3, "group": "s1", "split": null, "start_s": 1, "end_s": 2.5, "x": [1]}',
    )
    sample = _list(tmp_path)[0]["a"]

    assert (sample.label, sample.group, sample.split) == ("3", "s1", None)
    assert (sample.start_s, sample.end_s) == (1.0, 2.5)
    assert sample.meta == {"x": [1]}


def test_folder_takes_nothing_of_a_json_file_with_a_value_that_cannot_be_used(tmp_path: Path) -> None:
    _write(tmp_path, a__mp4=b"v", a__json='{"label": 3, "x": 1, "group": "s1", "start_s": "soon"}')
    samples, rejects = _list(tmp_path)

    assert (samples["a"].label, samples["a"].group, samples["a"].meta) == (None, None, {})
    assert [(reject.key, reject.dropped) for reject in rejects] == [("a", "part")]


def test_folder_knows_transcripts_and_labels_by_their_suffixes(tmp_path: Path) -> None:
    _write(tmp_path, a__TextGrid="", b__eaf="", c__ctm="", d__tsv="", e__transcript__json="", f__whisper__json="")
    _write(tmp_path, g__rttm="", h__labels__TextGrid="", i__labels__tsv="", j__labels__eaf="", k__transcript__csv="")
    samples, rejects = _list(tmp_path)

    assert rejects == []
    assert {key: list(sample.files) for key, sample in samples.items()} == {
        **{key: ["transcript"] for key in "abcdefk"},
        **{key: ["labels"] for key in "ghij"},
    }
    assert samples["k"].files["transcript"]["suffix"] == ".csv"


def test_folder_takes_json_with_segments_for_a_transcript(tmp_path: Path) -> None:
    segment = '{"start": 0, "end": 1, "text": "hi"}'
    _write(tmp_path, a__json=f'{{"text": "hi", "segments": [{segment}]}}', b__json=f"[{segment}]")
    _write(tmp_path, c__txt="hi", c__json='{"segments": [{"start": 0, "end": 1, "topic": "x"}]}')
    samples, rejects = _list(tmp_path)

    assert rejects == []
    assert list(samples["a"].files) == list(samples["b"].files) == ["transcript"]
    assert list(samples["c"].meta) == ["segments"]


def test_folder_takes_the_transcript_that_tells_the_most(tmp_path: Path) -> None:
    whisper = '{"text": "hi", "segments": []}'
    _write(tmp_path, a__json=whisper, a__srt="", a__tsv="", a__vtt="", a__txt="hi", b__ctm="", b__srt="", c__eaf="")
    _write(tmp_path, c__json='{"label": "x"}')
    samples, rejects = _list(tmp_path)

    chosen = {key: Path(sample.files["transcript"]["uri"]).name for key, sample in samples.items()}
    assert chosen == {"a": "a.json", "b": "b.srt", "c": "c.eaf"}
    assert samples["c"].label == "x"
    assert _facts(rejects) == [*[("a", "duplicate", "part")] * 3, ("b", "duplicate", "part")]
    assert "a.vtt is a second transcript beside a.json, which is kept" in rejects[0].text


def test_folder_takes_keys_from_nested_paths(tmp_path: Path) -> None:
    _write(tmp_path / "b" / "c", x__wav=b"w")
    _write(tmp_path / "b", x__wav=b"w", x__y__wav=b"w")

    assert sorted(_list(tmp_path)[0]) == ["b/c/x", "b/x", "b/x.y"]
    assert sorted(_list(f"{tmp_path}/")[0]) == ["b/c/x", "b/x", "b/x.y"]


def test_folder_takes_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _write(tmp_path / "data", a__wav=b"w")

    assert _list("data")[0]["a"].files["audio"]["uri"] == "data/a.wav"


def test_folder_leaves_hidden_files_out(tmp_path: Path) -> None:
    _write(tmp_path, a__wav=b"w", __b__wav=b"w", __DS_Store=b"x")
    _write(tmp_path / ".git", c__txt="c")
    samples, rejects = _list(tmp_path)

    assert list(samples) == ["a"]
    assert rejects == []


def test_folder_rejects_files_of_no_use(tmp_path: Path) -> None:
    _write(tmp_path, a__wav=b"w", notes__docx=b"d", README="r")
    rejects = _list(tmp_path)[1]

    assert sorted(_facts(rejects)) == [("README", "unknown_file", "part"), ("notes.docx", "unknown_file", "part")]
    assert "'.docx' are of no use here" in next(reject.text for reject in rejects if reject.key == "notes.docx")


def test_folder_says_what_a_table_is_to_be_called(tmp_path: Path) -> None:
    _write(tmp_path, a__wav=b"w", a__csv=b"start_s,end_s,text")
    (reject,) = _list(tmp_path)[1]

    assert "if it holds intervals, call it a.transcript.csv or a.labels.csv" in reject.text


def test_folder_rejects_the_second_file_of_a_kind(tmp_path: Path) -> None:
    _write(tmp_path, a__wav=b"1", a__flac=b"2", a__txt="lower", a__TXT="upper")
    samples, rejects = _list(tmp_path)

    assert samples["a"].text == "upper"  # the first by name
    assert samples["a"].files["audio"]["uri"].endswith("a.flac")
    assert _facts(rejects) == [("a", "duplicate", "part"), ("a", "duplicate", "part")]
    assert "a.wav is a second audio beside a.flac" in rejects[1].text


@pytest.mark.parametrize(
    ("name", "content", "dropped"),
    [
        ("a__txt", "caf\u00e9".encode("latin-1"), "text"),
        ("a__json", b"[1, 2]", "part"),
        ("a__json", b'{"label": ', "part"),
        ("a__json", b'{"start_s": "soon"}', "part"),
        ("a__json", b'{"end_s": Infinity}', "part"),
        ("a__json", b'{"start_s": [1]}', "part"),
        ("a__json", b'{"text": ["a", "b"]}', "part"),
    ],
)
def test_folder_rejects_a_small_file_that_is_broken_and_keeps_the_sample(
    tmp_path: Path, name: str, content: bytes, dropped: str
) -> None:
    _write(tmp_path, a__wav=b"w", **{name: content})
    samples, rejects = _list(tmp_path)

    assert list(samples) == ["a"]
    assert _facts(rejects) == [("a", "undecodable", dropped)]
    assert f"its .{name[3:]} file cannot be used" in rejects[0].text
    assert "mend the file" in rejects[0].text


def test_folder_rejects_a_name_that_is_no_utf8(tmp_path: Path) -> None:
    _write(tmp_path, a__wav=b"w")
    (tmp_path / os.fsdecode(b"caf\xe9.wav")).write_bytes(b"w")
    samples, rejects = _list(tmp_path)

    assert list(samples) == ["a"]
    assert [(reject.reason, reject.dropped) for reject in rejects] == [("unreadable", "sample")]


def test_folder_reads_any_filesystem_of_fsspec() -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe({"/talks/one/a.wav": b"w", "/talks/one/a.txt": b"hello", "/talks/.hidden.wav": b"w"})
    try:
        samples, rejects = _list("memory://talks")
    finally:
        memory.rm("/talks", recursive=True)

    assert rejects == []
    assert samples["one/a"].text == "hello"
    assert samples["one/a"].files["audio"]["uri"] == "memory://talks/one/a.wav"


@pytest.mark.parametrize("names", [[], ["notes.docx"], [".hidden.wav"]])
def test_folder_without_samples_is_an_error(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).touch()

    with pytest.raises(SourceError, match=r"holds no text, image, audio or video: point ingest\.source at recordings"):
        _list(tmp_path)


def test_source_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"nowhere', which does not exist: correct it in params\.yaml"):
        _list(tmp_path / "nowhere")


def test_source_of_no_known_kind_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()

    with pytest.raises(SourceError, match=r"a\.wav' is no folder, no \.tar and no \.csv \.jsonl \.parquet table"):
        _list(tmp_path / "a.wav")


def test_source_with_an_unknown_protocol_is_an_error() -> None:
    with pytest.raises(SourceError, match=r"ingest\.source 'nope://x' cannot be opened \(Protocol not known: nope\)"):
        _list("nope://x")


def test_folder_takes_linked_files_and_does_not_follow_linked_folders(tmp_path: Path) -> None:
    _write(tmp_path / "data", a__wav=b"w")
    (tmp_path / "data" / "b.wav").symlink_to(tmp_path / "data" / "a.wav")
    (tmp_path / "data" / "round").symlink_to(tmp_path / "data")
    samples, rejects = _list(tmp_path / "data")

    assert sorted(samples) == ["a", "b"]
    assert _facts(rejects) == [("round", "unknown_file", "part")]


class _Locked(MemoryFileSystem):
    """A filesystem with a folder that must not be listed and a file that must not be read; root is bound by it too."""

    protocol = "locked"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(MemoryFileSystem._strip_protocol(path.replace("locked://", "memory://")))

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        if path.rstrip("/").endswith("private"):
            raise PermissionError(13, "Permission denied", path)
        return list(super().ls(path, detail=detail, **kwargs))

    def _open(self, path: str, *args: Any, **kwargs: Any) -> Any:
        if path.endswith("secret.txt"):
            raise PermissionError(13, "Permission denied", path)
        return super()._open(path, *args, **kwargs)


@pytest.fixture
def locked() -> Iterator[_Locked]:
    fsspec.register_implementation("locked", _Locked, clobber=True)
    filesystem = _Locked()
    filesystem.pipe({"/talks/a.wav": b"w"})
    yield filesystem
    filesystem.rm("/talks", recursive=True)


def test_folder_that_cannot_be_listed_is_an_error_and_not_left_out(locked: _Locked) -> None:
    locked.store["/talks/private/b.wav"] = locked.store["/talks/a.wav"]

    with pytest.raises(SourceError, match=r"'locked://talks' cannot be read .*private.*: check its permissions"):
        _list("locked://talks")


def test_folder_rejects_a_small_file_that_cannot_be_read(locked: _Locked) -> None:
    locked.store["/talks/secret.txt"] = locked.store["/talks/a.wav"]
    rejects = _list("locked://talks")[1]

    assert _facts(rejects) == [("secret", "unreadable", "text")]
