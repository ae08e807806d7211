import io
import json
import os
import tarfile
from pathlib import Path

import fsspec
import pytest
import webdataset

from features.errors import SourceError
from pipelines.job import Reject
from pipelines.raw import RawSample, read_file
from pipelines.sources.listing import list_source


def _list(source: Path | str) -> tuple[dict[str, RawSample], list[Reject]]:
    samples, rejects = list_source(str(source), {})
    return {sample.key: sample for sample in samples}, rejects


def _tar(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def _facts(rejects: list[Reject]) -> list[tuple[str, str, str]]:
    return [(reject.key, reject.reason, reject.dropped) for reject in rejects]


def test_tar_of_the_webdataset_library_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "train-000000.tar"
    written = [
        {"__key__": f"talk/{number:03d}", "jpg": b"jpeg %d" % number, "txt": f"caption {number}", "cls": number}
        for number in range(3)
    ]
    with webdataset.TarWriter(str(path), encoder=True) as tar:
        for sample in written:
            tar.write({**sample, "json": {"speaker": "s1", "split": "val"}})
    samples, rejects = _list(path)

    assert rejects == []
    assert sorted(samples) == [sample["__key__"] for sample in written]
    for sample in written:
        found = samples[str(sample["__key__"])]
        assert read_file(found.files["image"]) == sample["jpg"]
        assert (found.text, found.label, found.split) == (sample["txt"], str(sample["cls"]), "val")
        assert found.meta == {"speaker": "s1"}


def test_tar_keys_end_at_the_first_dot_as_in_the_webdataset_library(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    members = {"v1.0/one.x.jpg": b"1", "./two.jpg": b"2", "deep/er/three.labels.csv": b"3", "deep/er/three.wav": b"4"}
    _tar(path, members)
    samples, rejects = _list(path)
    theirs = {webdataset.tariterators.base_plus_ext(name)[0] for name in members}

    assert rejects == []
    assert set(samples) == theirs == {"v1.0/one", "./two", "deep/er/three"}
    assert set(samples["deep/er/three"].files) == {"labels", "audio"}
    assert read_file(samples["v1.0/one"].files["image"]) == b"1"


def test_tar_leaves_hidden_members_and_folders_out(tmp_path: Path) -> None:
    _tar(tmp_path / "a.tar", {"._one.jpg": b"x", ".git/two.jpg": b"x", "three.jpg": b"3"})
    with tarfile.open(tmp_path / "a.tar", "a") as tar:
        folder = tarfile.TarInfo("four")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)

    assert list(_list(tmp_path / "a.tar")[0]) == ["three"]
    assert _list(tmp_path / "a.tar")[1] == []


def test_tar_rejects_members_of_no_use(tmp_path: Path) -> None:
    _tar(tmp_path / "a.tar", {"one.jpg": b"1", "one.png": b"2", "one.pyd": b"3", "README": b"4", "one.json": b"["})
    samples, rejects = _list(tmp_path / "a.tar")

    assert read_file(samples["one"].files["image"]) == b"1"
    assert _facts(rejects) == [
        ("one", "duplicate", "part"),
        ("one", "unknown_file", "part"),
        ("README", "unknown_file", "part"),
        ("one", "undecodable", "part"),
    ]


def test_tar_rejects_a_name_that_is_no_utf8(tmp_path: Path) -> None:
    _tar(tmp_path / "a.tar", {"one.jpg": b"1", os.fsdecode(b"caf\xe9.jpg"): b"2"})
    samples, rejects = _list(tmp_path / "a.tar")

    assert list(samples) == ["one"]
    assert [reject.reason for reject in rejects] == ["unknown_file"]


def _three_samples(path: Path) -> list[int]:
    """Write a tar of three samples of an image and a text; returns where their images begin."""
    members = {f"{key}.{suffix}": suffix.encode() * 400 for key in ("one", "two", "three") for suffix in ("jpg", "txt")}
    _tar(path, members)
    with tarfile.open(path) as tar:
        return [member.offset for member in tar if member.name.endswith("jpg")]


@pytest.mark.parametrize("cut_bytes", [100, 600, 1600, 2100, 2700, 3000])
def test_tar_that_breaks_off_gives_its_whole_samples_and_a_reject(tmp_path: Path, cut_bytes: int) -> None:
    """Cut in a header, in media, in a text, and between two members, where nothing but the missing end tells."""
    path = tmp_path / "a.tar"
    third = _three_samples(path)[2]
    with open(path, "r+b") as file:
        file.truncate(third + cut_bytes)
    samples, rejects = _list(path)

    cut_in_third = cut_bytes > 512
    assert list(samples) == (["one", "two"] if cut_in_third else ["one"])
    assert _facts(rejects) == [("three" if cut_in_third else "two", "truncated", "sample")]
    assert "cannot be read to its end" in rejects[0].text
    assert "fetch it again" in rejects[0].text


def test_tar_with_a_broken_header_in_the_middle_does_not_end_there(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    second = _three_samples(path)[1]
    with open(path, "r+b") as file:
        file.seek(second)
        file.write(b"\xff" * 512)

    assert [reject.reason for reject in _list(path)[1]] == ["truncated"]


def test_tar_that_is_none_is_a_reject(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"no tar at all" * 100)
    samples, rejects = _list(tmp_path / "a.tar")

    assert samples == {}
    assert _facts(rejects) == [("a.tar", "truncated", "sample")]


def test_folder_of_tars_says_what_it_leaves_out(tmp_path: Path) -> None:
    _tar(tmp_path / "b.tar", {"b.jpg": b"b"})
    _tar(tmp_path / "a.tar", {"a.jpg": b"a"})
    (tmp_path / "stray.jpg").touch()
    (tmp_path / ".hidden").touch()
    samples, rejects = _list(tmp_path)

    assert list(samples) == ["a", "b"]
    assert samples["b"].files["image"]["uri"] == f"{tmp_path}/b.tar"
    assert _facts(rejects) == [("stray.jpg", "unknown_file", "part")]


def test_tar_is_read_from_any_filesystem_of_fsspec(tmp_path: Path) -> None:
    _tar(tmp_path / "a.tar", {"one.wav": b"wave", "one.json": json.dumps({"label": "yes"}).encode()})
    memory = fsspec.filesystem("memory")
    memory.pipe("/shards/a.tar", (tmp_path / "a.tar").read_bytes())
    try:
        sample = _list("memory://shards/a.tar")[0]["one"]
        assert sample.label == "yes"
        assert read_file(sample.files["audio"]) == b"wave"
    finally:
        memory.rm("/shards", recursive=True)


def test_tar_without_members_is_an_error(tmp_path: Path) -> None:
    _tar(tmp_path / "a.tar", {})

    with pytest.raises(SourceError, match="holds no samples: point it at recordings or at a manifest"):
        _list(tmp_path / "a.tar")


def test_tar_members_keep_the_suffix_by_which_they_are_read(tmp_path: Path) -> None:
    _tar(tmp_path / "a.tar", {"one.mp4": b"film", "one.srt": b"1\n00:00:00,000 --> 00:00:01,000\nhello\n"})
    samples, _ = _list(tmp_path / "a.tar")
    assert {column: ref["suffix"] for column, ref in samples["one"].files.items()} == {
        "video": ".mp4",
        "transcript": ".srt",
    }


def test_tar_members_that_are_transcripts_are_known_by_suffix_or_content(tmp_path: Path) -> None:
    whisper = b'{"segments": [{"start": 0, "end": 1, "text": "hi"}]}'
    _tar(
        tmp_path / "a.tar", {"one.json": whisper, "one.labels.tsv": b"", "two.json": b'{"label": "x"}', "two.eaf": b""}
    )
    samples, rejects = _list(tmp_path / "a.tar")
    assert rejects == []
    assert read_file(samples["one"].files["transcript"]) == whisper
    assert {key: sorted(sample.files) for key, sample in samples.items()} == {
        "one": ["labels", "transcript"],
        "two": ["transcript"],
    }
    assert samples["two"].label == "x"
