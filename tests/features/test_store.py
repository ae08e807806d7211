import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from building import build_store
from hypothesis import given, settings
from hypothesis import strategies as st

import features
from features.check import check
from features.compact import Shards
from features.errors import QueryError, ShardError, StoreError
from features.sample import SAMPLE_SCHEMA
from features.shards import describe_shard, read_shard
from features.store import Store
from features.writing import write_shard

NUM_SAMPLES = 40
KEYS = [f"rec{row // 5:02}/{row % 5}" for row in range(NUM_SAMPLES)]


def vectors(dim: int, *, absent: set[int] = frozenset(), dtype: str = "float32") -> list[np.ndarray | None]:
    return [None if row in absent else np.arange(row, row + dim).astype(dtype) for row in range(NUM_SAMPLES)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """40 samples in several shards: rows 0 and 39 and all of rec03 lack the image, no sample has audio."""
    folder = tmp_path_factory.mktemp("store")
    samples = [
        {"key": key, "label": "ab"[row % 2], "split": "test" if row >= 35 else "train", "text": f"text {row}"}
        for row, key in enumerate(KEYS)
    ]
    sequences = [None if row % 7 == 0 else np.full((row % 3, 2), row, np.float32) for row in range(NUM_SAMPLES)]
    times = [None if found is None else np.arange(2.0 * len(found)).reshape(-1, 2) for found in sequences]
    views = {
        "image": {"vectors": vectors(4, absent={0, 39, *range(15, 20)}), "dtype": "float16"},
        "text": {"vectors": vectors(3), "dtype": "float32"},
        "audio": {"vectors": [None] * NUM_SAMPLES, "dim": 2},
        "words": {"vectors": sequences, "times": times, "dtype": "float16"},
    }
    rejects = [{"key": "rec99", "stage": "clean", "reason": "silent", "dropped": "sample", "text": "peak -80 dBFS"}]
    build_store(folder, samples, views, rejects=rejects)
    return folder


@pytest.fixture(scope="module")
def store(folder) -> Store:
    return features.open(folder)


@pytest.fixture
def copied(folder, tmp_path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def test_open_finds_the_store_of_a_project(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "data" / "features")
    assert len(features.open(tmp_path)) == NUM_SAMPLES


def test_open_reads_the_manifest_only(copied):
    for path in (copied / "samples", copied / "image", *copied.glob("rejects-*")):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert features.open(copied).views["image"].shape == (4,)


def test_open_names_what_is_missing(tmp_path):
    with pytest.raises(
        StoreError, match=r"no manifest.json.*: run 'dvc pull' if one was published, or 'dvc repro embed'$"
    ):
        features.open(tmp_path)


def test_open_refuses_a_newer_format(copied):
    content = json.loads((copied / "manifest.json").read_text()) | {"format_version": 99}
    (copied / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(StoreError, match="format 99"):
        features.open(copied)


def test_store_has_its_keys_views_and_rejects(store):
    assert len(store) == NUM_SAMPLES
    assert store.keys == KEYS
    assert len(store.manifest.shards) > 2
    assert store.views["words"].shape == (None, 2)
    assert store.rejects["reason"].to_pylist() == ["silent"]


def test_get_returns_rows_in_the_order_asked(store):
    found = store.get([KEYS[7], KEYS[30], KEYS[7]], "text")
    assert found.dtype == np.float32
    assert found.tolist() == [[7, 8, 9], [30, 31, 32], [7, 8, 9]]


def test_get_gives_nan_where_absent_and_keeps_the_dtype(store):
    found = store.get([KEYS[1], KEYS[0], KEYS[39]], "image")
    assert found.dtype == np.float16
    assert np.isnan(found).all(axis=1).tolist() == [False, True, True]
    assert np.isnan(store.get(KEYS, "audio")).all()


def test_get_finds_the_first_and_last_key_of_every_shard(folder):
    for shard in features.open(folder).manifest.shards:
        fresh = features.open(folder)
        rows = [KEYS.index(key) for key in (shard.last_key, shard.first_key)]
        assert fresh.get([shard.last_key, shard.first_key], "text")[:, 0].tolist() == rows


@given(st.lists(st.integers(0, NUM_SAMPLES - 1), max_size=60))
@settings(max_examples=30, deadline=None)
def test_get_agrees_with_the_written_vectors(store, rows):
    assert store.get([KEYS[row] for row in rows], "text").tolist() == [[row, row + 1, row + 2] for row in rows]


@pytest.mark.parametrize("key", ["", "rec00/00", "rec07/5", "zzz"])
def test_get_refuses_a_key_beside_or_between_shards(store, key):
    with pytest.raises(StoreError, match=f"lacks 1 of the keys: {key!r}"):
        store.get([KEYS[3], key], "text")


def test_get_takes_keys_from_a_table_by_their_place(store):
    """A column of pandas that was sorted gives by its labels what is asked for by [place]."""
    keys = [KEYS[7], KEYS[3], KEYS[12]]
    expected = store.get(keys, "text").tolist()
    columns = [pd.Series(keys, index=[2, 0, 1]), pd.Series(keys, index=list("xyz"))]
    for column in (*columns, np.array(keys), pa.array(keys), pa.chunked_array([keys[:1], keys[1:]]), iter(keys)):
        assert store.get(column, "text").tolist() == expected
    for column in (*columns, pa.array(keys)):
        assert len(store.get_sequences(column, "words")) == len(keys)
        assert store.nearest("text", keys=column, k=1)["query"].to_pylist() == keys


def test_tables_take_a_list_of_views(store, tmp_path):
    for ask in (store.table, store.batches, lambda views: store.export("parquet", tmp_path / "out", views=views)):
        with pytest.raises(StoreError, match="views is the text 'image'; pass a list of views"):
            ask("image")


def test_get_suggests_the_nearest_key_and_view(store):
    with pytest.raises(StoreError, match="'rec03/9', did you mean 'rec03/"):
        store.get(["rec03/9"], "image")
    with pytest.raises(StoreError, match=r"no view 'imag', did you mean 'image'\?; it has audio, image, text, words"):
        store.get(KEYS, "imag")
    with pytest.raises(StoreError, match="pass a list"):
        store.get("rec03/1", "image")


def test_get_sequences_returns_vectors_with_intervals(store):
    absent, empty, two = store.get_sequences([KEYS[7], KEYS[3], KEYS[5]], "words")
    assert absent is None
    assert empty.vectors_TD.shape == (0, 2)
    assert two.vectors_TD.tolist() == [[5, 5], [5, 5]]
    assert two.times_T2.tolist() == [[0, 1], [2, 3]]


def test_get_and_get_sequences_point_at_each_other(store):
    with pytest.raises(StoreError, match=r"get_sequences\(\)"):
        store.get(KEYS, "words")
    with pytest.raises(StoreError, match=r"get\(\)"):
        store.get_sequences(KEYS, "text")


def test_table_puts_views_beside_samples(store):
    table = store.table(["image", "text", "words"])
    assert table["key"].to_pylist() == KEYS
    assert table["text"][1].as_py() == "text 1"
    assert table["text_embedding"][1].as_py() == [1, 2, 3]
    assert table["image"].null_count == 7
    assert table["words_embedding"][5].as_py() == [[5, 5], [5, 5]]
    assert table["words_embedding_end_s"][5].as_py() == [1, 3]
    assert table["words_embedding_start_s"][7].as_py() is None


def test_table_copies_no_vectors(store):
    addresses = [
        [chunk.values.buffers()[1].address for chunk in store.table(["image"])["image"].chunks] for _ in range(2)
    ]
    assert addresses[0] == addresses[1]


def test_table_takes_a_split_and_a_condition(store):
    assert store.table([], split="test")["key"].to_pylist() == KEYS[35:]
    chosen = store.table(["image"], split="train", where="label = 'a' and image is not null -- even rows")
    assert chosen["key"].to_pylist() == [
        key for row, key in enumerate(KEYS[:35]) if row % 2 == 0 and row not in (0, 16, 18)
    ]


def test_table_of_some_rows_keeps_nan_under_null(store):
    image = store.table(["image"], where="key <= 'rec00/1'")["image"].combine_chunks()
    assert image.is_null().to_pylist() == [True, False]
    assert np.isnan(image.values.to_numpy()).tolist() == [True] * 4 + [False] * 4


def test_table_of_an_empty_split_has_the_columns(store):
    table = store.table(["image", "words"], split="val")
    assert table.num_rows == 0
    assert table.schema.equals(store.table(["image", "words"]).schema)


def test_table_refuses_an_unknown_split_and_a_bad_condition(store):
    with pytest.raises(StoreError, match="did you mean 'train'"):
        store.table([], split="trian")
    with pytest.raises(QueryError, match="nothere"):
        store.table([], where="nothere = 1")


def test_store_without_samples_can_be_read(tmp_path):
    build_store(tmp_path, [], {"image": {"vectors": [], "dim": 3}})
    store = features.open(tmp_path)
    assert (len(store), store.keys) == (0, [])
    assert store.get([], "image").shape == (0, 3)
    assert store.table(["image"], split="train").num_rows == 0
    assert store.sql("select count(*) as n from samples where image is null")["n"].to_pylist() == [0]


def test_store_names_a_truncated_shard(copied):
    path = next((copied / "image").iterdir())
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ShardError, match=f"{path.name} is no whole Arrow file"):
        features.open(copied).get(KEYS, "image")


def test_store_names_an_empty_shard_file(copied):
    path = next((copied / "image").iterdir())
    path.write_bytes(b"")
    with pytest.raises(ShardError, match=path.name):
        features.open(copied).get(KEYS, "image")


def test_store_names_a_missing_shard(copied):
    path = next((copied / "text").iterdir())
    path.unlink()
    store = features.open(copied)
    assert not np.isnan(store.get(KEYS[1:2], "image")).any()
    with pytest.raises(ShardError, match=f"{path.name} is in the manifest but not on disk"):
        store.table(["text"])


def test_store_names_a_shard_of_other_rows_or_columns(copied):
    store = features.open(copied)
    first, second = (
        store.folder / "image" / store.views["image"].files[shard.name] for shard in store.manifest.shards[:2]
    )
    shutil.copy(copied / "text" / store.views["text"].files[store.manifest.shards[1].name], second)
    with pa.OSFile(str(first), "wb") as file, pa.ipc.new_file(file, store.reader.columns("image", 2).schema):
        pass
    with pytest.raises(ShardError, match=f"{first.name} holds 0 rows, the manifest says"):
        store.get(KEYS[:1], "image")
    with pytest.raises(ShardError, match=r"lacks embedding of type fixed_size_list<item: halffloat>\[4\]"):
        store.get([store.manifest.shards[1].first_key], "image")


def test_store_written_before_words_were_kept_has_none(copied):
    manifest = features.open(copied).manifest
    for shard in manifest.shards:
        path = copied / "samples" / shard.file
        write_shard(path, read_shard(path).drop_columns(["words"]).combine_chunks().to_batches()[0])
    shards = tuple(describe_shard(shard.name, copied / "samples" / shard.file) for shard in manifest.shards)
    replace(manifest, shards=Shards.of(shards)).save(copied)

    store = features.open(copied)
    assert store.samples["words"].null_count == len(store) > 0
    assert store.table(["image"]).column_names == [*SAMPLE_SCHEMA.names, "image"]
    assert store.sql("select count(*) as n from samples where words is null").to_pylist() == [{"n": len(store)}]
    assert not [problem for problem in check(store) if problem.rule == "schema"]


def test_store_names_missing_rejects(copied):
    next(copied.glob("rejects-*")).unlink()
    with pytest.raises(ShardError, match=r"rejects-.*\.parquet is in the manifest but not on disk"):
        _ = features.open(copied).rejects
