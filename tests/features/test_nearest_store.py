import gc
import weakref
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from building import build_store

from features.errors import EncoderError, QueryError, StoreError
from features.store import Store, open_store

ANGLES_DEG = [0, 10, 20, 30, 180, 90]


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    """Samples a to f, at these angles from the first; c has no embedding."""
    folder = tmp_path_factory.mktemp("store")
    vectors = [np.array([np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))]) for angle in ANGLES_DEG]
    vectors[2] = None
    labels = ["x", "y", "x", "y", None, "x"]
    samples = [
        {"key": key, "label": label, "split": "val" if key == "b" else "train"}
        for key, label in zip("abcdef", labels, strict=True)
    ]
    times = [np.array([[0.0, 1.0]])] * 6
    views = {"image": {"vectors": vectors}, "words": {"vectors": [np.ones((1, 2))] * 6, "times": times}}
    build_store(folder, samples, views, shard_rows=2)
    return open_store(folder)


def keys(found: pa.Table) -> list[str]:
    return found["key"].to_pylist()


def test_nearest_of_one_vector_has_samples_best_first(store):
    found = store.nearest("image", np.array([1.0, 0.0]), k=3)
    assert found.column_names == ["key", "score", "label", "split"]
    assert found.select(["key", "label", "split"]).to_pylist() == [
        {"key": "a", "label": "x", "split": "train"},
        {"key": "b", "label": "y", "split": "val"},
        {"key": "d", "label": "y", "split": "train"},
    ]
    assert found["score"].to_pylist() == pytest.approx(np.cos(np.deg2rad([0, 10, 30])), abs=1e-3)
    assert found.schema.metadata == {b"view": b"image", b"metric": b"cosine", b"method": b"exact"}


def test_nearest_gives_what_there_is_and_never_an_absent_embedding(store):
    assert keys(store.nearest("image", [1, 0], k=100)) == ["a", "b", "d", "f", "e"]


def test_nearest_of_several_vectors_has_the_place_of_the_query(store):
    found = store.nearest("image", [[1, 0], [0, 1]], k=2)
    assert found["query"].to_pylist() == [0, 0, 1, 1]
    assert keys(found) == ["a", "b", "f", "d"]
    assert store.nearest("image", np.array([[1.0, 0.0]]), k=1)["query"].to_pylist() == [0]


@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_nearest_to_a_zero_vector_scores_0_in_key_order(store, metric):
    found = store.nearest("image", [0.0, 0.0], k=3, metric=metric)
    assert (keys(found), found["score"].to_pylist()) == (["a", "b", "d"], [0, 0, 0])


def test_nearest_by_dot_counts_length_which_cosine_does_not(store):
    near, far = (store.nearest("image", [length, 0], k=1, metric="dot")["score"][0].as_py() for length in (1, 3))
    assert far == pytest.approx(3 * near)
    assert store.nearest("image", [3, 0], k=1)["score"][0].as_py() == pytest.approx(1)


def test_nearest_to_a_sample_is_not_itself_unless_asked(store):
    assert keys(store.nearest("image", keys="a", k=2)) == ["b", "d"]
    assert keys(store.nearest("image", keys="a", k=2, include_self=True)) == ["a", "b"]
    found = store.nearest("image", keys=["d", "a"], k=1)
    assert found.select(["query", "key"]).to_pylist() == [{"query": "d", "key": "b"}, {"query": "a", "key": "b"}]


def test_nearest_to_a_sample_that_the_filter_leaves_out(store):
    assert keys(store.nearest("image", keys="a", k=5, where="label = 'y'")) == ["b", "d"]
    assert keys(store.nearest("image", keys="a", k=5, split="val")) == ["b"]
    assert keys(store.nearest("image", keys=["a"], k=5, split="test")) == []


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"query": np.ones(3)}, QueryError, r"has the shape \[3\]; a vector of view 'image' has 2 numbers"),
        ({"query": np.ones((2, 2, 2))}, QueryError, r"has the shape \[2, 2, 2\]"),
        ({"query": 1.5}, QueryError, r"has the shape \[\]"),
        ({"query": [1.0, np.nan]}, QueryError, "holds NaN or infinity"),
        ({"query": [1.0, np.inf]}, QueryError, "holds NaN or infinity"),
        ({"keys": ["a", "c"]}, StoreError, "sample 'c' has no embedding in view 'image'"),
        ({"keys": "zz"}, StoreError, "lacks 1 of the keys: 'zz'"),
        ({"query": [1, 0], "where": "labl = 'x'"}, QueryError, "labl"),
        ({"query": [1, 0], "split": "tran"}, StoreError, "did you mean 'train'"),
        ({"query": "a"}, EncoderError, "'a' is a key: ask with keys='a'"),
        ({"query": [1, 0], "k": 0}, ValueError, "k is 0"),
        ({"query": [1, 0], "metric": "cos"}, ValueError, "must be cosine or dot"),
        ({"query": [1, 0], "keys": "a"}, ValueError, "both a query and keys"),
        ({}, ValueError, "there is no query"),
    ],
)
def test_nearest_says_what_is_wrong_with_a_query(store, asked, error, message):
    with pytest.raises(error, match=message):
        store.nearest("image", **asked)


def test_nearest_refuses_sequences_and_unknown_views(store):
    with pytest.raises(StoreError, match="'words' keeps sequences, not one vector a sample"):
        store.nearest("words", [1, 0])
    with pytest.raises(StoreError, match="did you mean 'image'"):
        store.nearest("imag", [1, 0])


def test_nearest_leaves_no_cycle_that_would_hold_a_version(tmp_path: Path) -> None:
    build_store(tmp_path, [{"key": f"key{number}"} for number in range(8)], {"image": {"vectors": [np.ones(4)] * 8}})
    gc.disable()
    try:
        store = open_store(tmp_path)
        store.nearest("image", np.ones(4))
        gone = weakref.ref(store)
        del store
        assert gone() is None
    finally:
        gc.enable()
