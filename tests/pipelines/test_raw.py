from pathlib import Path
from typing import Any

import pytest

from features.errors import SourceError
from features.reasons import MediaError, Reason
from pipelines.ingest import (
    measure_file,
)
from pipelines.params import SplitParams
from pipelines.raw import check_key, content_digest, file_ref, open_file, read_file, source_digest, source_uris

SPLIT = SplitParams(val=0.15, test=0.15, seed=0)


@pytest.mark.parametrize("key", ["", "a~1", "a\nb", "a\0", "caf\udce9"])
def test_check_key_refuses_what_cannot_name_a_sample(key: str) -> None:
    with pytest.raises(SourceError, match="row 7: key"):
        check_key(key, "row 7")


@pytest.mark.parametrize("key", ["007", "rec7/0003", "v1.0/a b", "日本", " "])
def test_check_key_takes_paths_and_any_script(key: str) -> None:
    check_key(key, "row 7")


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


def test_source_uris_are_in_a_fixed_order() -> None:
    assert source_uris(_recording(labels=file_ref("a.labels.csv"), audio=file_ref("a.wav"))) == "a.wav a.labels.csv"


def _digested(uri: str, digest: str) -> dict[str, Any]:
    return {**file_ref(uri), "digest": digest}


def test_source_digest_sees_all_that_decides_the_media_and_no_names() -> None:
    row = _recording(video=_digested("a.mp4", "1"), transcript=_digested("a.srt", "2"), text="a cat")
    moved = {**row, "video": _digested("/new/b.MP4", "1"), "key": "b", "label": "x", "split": "val", "intervals": []}
    others = [
        {**row, "video": _digested("a.mp4", "3")},
        {**row, "video": _digested("a.mkv", "1")},
        {**row, "transcript": _digested("a.vtt", "2")},
        {**row, "transcript": None},
        {**row, "video": None, "audio": row["video"]},
        {**row, "text": "a dog"},
    ]

    assert source_digest(moved) == source_digest(row)
    assert len({source_digest(other) for other in (row, *others)}) == len(others) + 1


def test_source_digest_sees_the_key_where_a_file_may_tell_of_several_recordings() -> None:
    row = _recording(key="a", audio=_digested("a.wav", "1"), transcript=_digested("all.ctm", "2"))
    assert source_digest({**row, "key": "b"}) != source_digest(row)


def test_source_digest_is_the_same_for_a_file_and_a_member_of_a_tar() -> None:
    member = {**file_ref("set.tar", member="x/a.mp4", offset=512, size=4), "digest": "1"}
    assert source_digest(_recording(video=member)) == source_digest(_recording(video=_digested("a.mp4", "1")))


def test_open_file_tells_a_decoder_the_suffix_of_a_member(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"beforewave")
    file = open_file(file_ref("a.tar", member="x/a.WAV", offset=6, size=4), str(tmp_path))
    assert not isinstance(file, str)
    assert (file.name, file.read()) == ("file.wav", b"wave")
