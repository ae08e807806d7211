from pathlib import Path

import pytest
from counting import publish_sources, publish_texts

from features.errors import StageError
from features.sample import MEDIA_SCHEMA, media_row
from features.shards import describe_shard, read_shard, shard_writer
from features.writing import write_shard
from pipelines.ingest import read_raw
from pipelines.inventory import INVENTORY_SCHEMA, read_inventory
from pipelines.job import ShardRecord
from pipelines.media.spans import span
from pipelines.stage import publish_stage


def test_read_inventory_lists_all_samples_by_key_with_their_places(tmp_path: Path) -> None:
    texts = {f"rec{index % 5}/{index}": None if index == 3 else f"text {index}" for index in range(20)}
    first = publish_texts(tmp_path / "first", {key: texts[key] for key in list(texts)[:10]})
    second = publish_texts(tmp_path / "second", {key: texts[key] for key in list(texts)[10:]})
    inventory = read_inventory([first, second])

    assert inventory.schema.equals(INVENTORY_SCHEMA)
    assert inventory.column("key").to_pylist() == sorted(texts)
    for row in inventory.to_pylist():
        assert read_shard(Path(row["path"]))["key"][row["row"]].as_py() == row["key"]
        assert row["text"] == texts[row["key"]]
        assert row["has_text"] == (row["digest_text"] is not None) == (row["text"] is not None)
        assert (row["has_audio"], row["source"]) == (False, "")


def test_read_inventory_has_the_words_of_each_sample_without_what_is_not_theirs(tmp_path: Path) -> None:
    said = {"a": [span(0.5, 1.0, text="one")], "b": [], "c": None}
    with shard_writer(tmp_path / "s.arrow", MEDIA_SCHEMA) as writer:
        for key, words in said.items():
            identity = dict.fromkeys(("key", "recording", "group", "source_digest"), key)
            writer.append(media_row(**identity, split="train", variant=0, words=words))
    record = ShardRecord(describe_shard("s", tmp_path / "s.arrow"), "", 3, ())
    publish_stage(tmp_path, stage="align", settings={}, records=[record], before=tmp_path / "none")
    words = read_inventory([tmp_path])["words"].to_pylist()
    assert words == [[{"start_s": 0.5, "end_s": 1.0, "text": "one"}], [], None]


def test_read_inventory_says_that_a_shard_is_too_old(tmp_path: Path) -> None:
    folder = publish_texts(tmp_path, {"a": "x"})
    (path,) = folder.glob("*.arrow")
    write_shard(path, read_shard(path).drop_columns(["words"]).combine_chunks().to_batches()[0])
    with pytest.raises(
        StageError, match=r"is of an older Plait \(Field \"words\" does not exist in schema\): run 'dvc"
    ):
        read_inventory([folder])


def test_read_inventory_names_the_files_of_each_recording(tmp_path: Path) -> None:
    segments = publish_texts(tmp_path / "align", {"a/0": "x", "b/0": "y", "b/1": "z"})
    sources = publish_sources(tmp_path / "ingest", {"b": "raw/b one.wav"})
    raw = read_inventory([segments], read_raw(sources))

    assert raw.column("source").to_pylist() == ["", "raw/b one.wav", "raw/b one.wav"]
    with pytest.raises(StageError, match="stage 'ingest' has not finished"):
        read_raw(tmp_path / "nothing")


def test_read_inventory_of_nothing_is_empty(tmp_path: Path) -> None:
    assert read_inventory([publish_texts(tmp_path / "align", {})]).equals(INVENTORY_SCHEMA.empty_table())
    assert read_inventory([]).num_rows == 0


def test_read_inventory_refuses_a_key_that_comes_twice(tmp_path: Path) -> None:
    folders = [publish_texts(tmp_path / name, {"a/0": "x", "b/0": "y"}) for name in ("one", "two")]
    with pytest.raises(StageError, match="two samples have the key 'a/0'"):
        read_inventory(folders)
