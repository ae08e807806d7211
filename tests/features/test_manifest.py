import functools
import json
import operator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.compact import Shards
from features.errors import StoreError
from features.manifest import MANIFEST_FILE, Manifest, parse_manifest, view_schema
from features.rev import DIGEST_CHARS, digest_bytes
from features.shards import Shard
from features.view import StoredView

SHARDS = Shards.of([Shard("one", "one-f.arrow", 2, "a", "b", "d1"), Shard("two", "two-f.arrow", 3, "c", "é", "d2")])
VIEW = StoredView(
    name="image",
    rev="rev",
    input="image",
    encoder="lite",
    pooling="mean",
    dtype="float16",
    dim=8,
    code_version="1",
    weights_digest=None,
    definition={"libraries": {"timm": "1.0"}},
    files={"one": "one-r.arrow", "two": "two-r.arrow"},
    digests={"one": "d3", "two": "d4"},
    num_present=2,
)


def test_manifest_reads_back_as_it_was_saved(tmp_path: Path) -> None:
    manifest = Manifest(
        shards=SHARDS, views={"image": VIEW}, steps={"align": {"min_s": 0.1}}, rejects="rejects-1.parquet"
    )
    manifest.save(tmp_path)

    assert parse_manifest((tmp_path / MANIFEST_FILE).read_bytes(), tmp_path) == manifest
    assert manifest.num_rows == 5


def test_manifest_has_equal_bytes_for_equal_content(tmp_path: Path) -> None:
    for name, views in (("one", ["image", "audio"]), ("two", ["audio", "image"])):
        Manifest(shards=SHARDS, views=dict.fromkeys(views, VIEW), steps={}, rejects="rejects-1.parquet").save(
            tmp_path / name
        )

    assert (tmp_path / "one" / MANIFEST_FILE).read_bytes() == (tmp_path / "two" / MANIFEST_FILE).read_bytes()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", r"manifest\.json is no JSON .*dvc checkout"),
        ("[]", r"manifest\.json has format None; this Plait reads format 2"),
        (json.dumps({"format_version": 1}), r"has the older format 1: remove .* and run 'dvc repro embed'"),
        (json.dumps({"format_version": 3}), r"has format 3; this Plait reads format 2: install the matching one"),
    ],
)
def test_parse_manifest_names_what_is_wrong(tmp_path: Path, content: str, said: str) -> None:
    with pytest.raises(StoreError, match=said):
        parse_manifest(content.encode(), tmp_path)


@given(st.data())
@settings(deadline=None)
def test_parse_manifest_refuses_any_other_byte(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.getbasetemp() / "flipped"
    Manifest(shards=SHARDS, views={"image": VIEW}, steps={}, rejects="rejects-1.parquet").save(folder)
    text = bytearray((folder / MANIFEST_FILE).read_bytes())
    text[data.draw(st.integers(0, len(text) - 1))] ^= data.draw(st.integers(1, 255))

    with pytest.raises(StoreError):
        parse_manifest(bytes(text), folder)


def _signed(content: dict[str, Any]) -> bytes:
    """A manifest of any content with the digest that it should have."""
    blank = json.dumps({**content, "digest": "0" * DIGEST_CHARS}).encode()
    return blank.replace(b"0" * DIGEST_CHARS, digest_bytes(blank).encode(), 1)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (["shards"], None),
        (["shards"], 7),
        (["shards", 0], ["one-f.arrow", 2, "a", "b"]),
        (["shards", 0], ["one-f.arrow", "2", "a", "b", "d1"]),
        (["shards", 1], ["two-f.arrow", 3, "c", ["d"], "d2"]),
        (["views"], []),
        (["views", "image"], None),
        (["views", "image"], {"name": "image", "files": []}),
        (["views", "image", "colour"], "red"),
        (["views", "image", "dim"], "8"),
        (["views", "image", "dim"], 0),
        (["views", "image", "dtype"], "float64"),
        (["views", "image", "weights_digest"], 1),
        (["views", "image", "files"], [["one-r.arrow", "d3"]]),
        (["views", "image", "files"], [["two-r.arrow", "d4"], ["one-r.arrow", "d3"]]),
        (["steps"], None),
        (["rejects"], 1),
    ],
)
def test_parse_manifest_refuses_what_no_manifest_says(tmp_path: Path, place: list[Any], value: object) -> None:
    Manifest(shards=SHARDS, views={"image": VIEW}, steps={}, rejects="rejects-1.parquet").save(tmp_path)
    content = json.loads((tmp_path / MANIFEST_FILE).read_bytes())
    assert parse_manifest(_signed(content), tmp_path).views == {"image": VIEW}

    *parents, last = place
    functools.reduce(operator.getitem, parents, content)[last] = value

    with pytest.raises(StoreError, match=r"manifest\.json is not as its format says .*dvc checkout"):
        parse_manifest(_signed(content), tmp_path)


def test_manifest_refuses_a_view_of_other_shards() -> None:
    with pytest.raises(ValueError, match="view 'image' has 2 shards, which are not the samples' 1"):
        Manifest(shards=Shards.of(SHARDS[:1]), views={"image": VIEW}, steps={}, rejects="rejects-1.parquet")


def test_manifest_is_a_line_a_shard(tmp_path: Path) -> None:
    Manifest(shards=SHARDS, views={"image": VIEW}, steps={}, rejects="rejects-1.parquet").save(tmp_path)

    lines = (tmp_path / MANIFEST_FILE).read_text(encoding="utf-8").splitlines()

    assert '  ["two-f.arrow", 3, "c", "é", "d2"]' in lines
    assert '    ["one-r.arrow", "d3"],' in lines


@pytest.mark.parametrize(("dtype", "value"), [("float16", pa.float16()), ("float32", pa.float32())])
def test_view_schema_holds_one_vector_a_row(dtype: str, value: pa.DataType) -> None:
    schema = view_schema(dim=3, dtype=dtype, is_sequence=False)

    assert schema.names == ["key", "feature_key", "embedding"]
    assert schema.field("embedding").type == pa.list_(value, 3)
    assert not schema.field("key").nullable


def test_view_schema_of_a_sequence_keeps_intervals() -> None:
    schema = view_schema(dim=3, dtype="float16", is_sequence=True)

    assert schema.names == ["key", "feature_key", "embedding", "start_s", "end_s"]
    assert schema.field("embedding").type == pa.list_(pa.list_(pa.float16(), 3))
    assert schema.field("end_s").type == pa.list_(pa.float64())
