import json
import os

import numpy as np
import pytest
from building import build_store

from features import nearest_index
from features.errors import StoreError
from features.store import open_store

NUM_ROWS = 240  # fewer than a recall is measured with: all of them are the sample


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    rng = np.random.default_rng(0)
    centres_CD = rng.standard_normal((6, 32))
    vectors = [centres_CD[row % 6] + 0.5 * rng.standard_normal(32) for row in range(NUM_ROWS)]
    vectors[17] = None
    samples = [{"key": f"{row:04}", "split": "val" if row % 5 == 0 else "train"} for row in range(NUM_ROWS)]
    folder = tmp_path_factory.mktemp("store")
    build_store(folder, samples, {"image": {"vectors": vectors}}, shard_rows=50)
    return folder


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The user's cache folder, empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "plait" / "nearest"


def keys_by_query(found):
    near = {}
    for row in found.to_pylist():
        near.setdefault(row["query"], set()).add(row["key"])
    return near


def test_index_reports_the_recall_that_it_has(folder, cache, monkeypatch):
    monkeypatch.setattr(nearest_index, "_FEWEST_PROBES", 2)
    monkeypatch.setattr(nearest_index, "_FEWEST_CANDIDATES", 1)
    monkeypatch.setattr(nearest_index, "_WANTED_RECALL", 0.6)  # so that it is not 1
    store = open_store(folder)
    keys = [key for key in store.keys if key != "0017"]
    found = store.nearest("image", keys=keys, approximate=True)
    true = keys_by_query(store.nearest("image", keys=keys, approximate=False))
    hits = sum(len(near & true[key]) for key, near in keys_by_query(found).items())
    reported = float(found.schema.metadata[b"recall_at_10"])
    assert 0.6 <= reported < 1
    assert reported == pytest.approx(hits / (10 * len(keys)), abs=1e-3)
    assert found.schema.metadata[b"recall_queries"] == b"239"
    assert found.schema.metadata[b"method"] == b"approximate"


def test_index_gives_the_scores_of_exact_search(folder, cache):
    store = open_store(folder)
    found, exact = (store.nearest("image", keys=store.keys[:9], k=200, approximate=mode) for mode in (True, False))
    scores = {(row["query"], row["key"]): row["score"] for row in exact.to_pylist()}
    common = [row for row in found.to_pylist() if (row["query"], row["key"]) in scores]
    assert len(common) > 9 * 150
    assert all(scores[row["query"], row["key"]] == row["score"] for row in common)


def test_index_is_built_once_for_a_version(folder, cache, tmp_path, capsys):
    first = open_store(folder).nearest("image", keys="0001", approximate=True)
    assert "building the index of the 239 embeddings of 'image'" in capsys.readouterr().err
    again = open_store(folder).nearest("image", keys="0001", approximate=True)
    assert capsys.readouterr().err == ""
    assert again.equals(first, check_metadata=True)
    changed = tmp_path / "changed"
    build_store(changed, [{"key": "a"}, {"key": "b"}], {"image": {"vectors": [np.ones(32), np.ones(32)]}})
    assert open_store(changed).nearest("image", keys="a", approximate=True)["key"].to_pylist() == ["b"]
    assert "of the 2 embeddings" in capsys.readouterr().err
    assert len(list(cache.glob("*.faiss"))) == len(list(cache.iterdir())) / 2 == 2


def test_index_searches_more_lists_for_a_part_of_the_rows(folder, cache):
    store = open_store(folder)
    found = store.nearest("image", keys=store.keys[:5], k=20, where="key < '0030'", split="train", approximate=True)
    exact = store.nearest("image", keys=store.keys[:5], k=20, where="key < '0030'", split="train", approximate=False)
    assert found.equals(exact)
    assert found.num_rows == 5 * 20


def test_index_gives_what_there_is_where_k_is_larger(folder, cache):
    found = open_store(folder).nearest("image", keys="0003", k=1000, approximate=True)
    assert sorted(found["key"].to_pylist()) == [f"{row:04}" for row in range(NUM_ROWS) if row not in (3, 17)]


def test_index_that_is_damaged_is_removed_and_built_again(folder, cache, capsys):
    open_store(folder).nearest("image", keys="0001", approximate=True)
    (path,) = cache.glob("*.faiss")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(StoreError, match="was damaged and is removed: ask again"):
        open_store(folder).nearest("image", keys="0001", approximate=True)
    capsys.readouterr()
    open_store(folder).nearest("image", keys="0001", approximate=True)
    assert "building" in capsys.readouterr().err


def test_index_whose_building_was_cut_off_is_built_again(folder, cache, capsys, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(nearest_index, "write_json", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            open_store(folder).nearest("image", keys="0001", approximate=True)
    capsys.readouterr()
    open_store(folder).nearest("image", keys="0001", approximate=True)
    assert "building" in capsys.readouterr().err
    (about,) = cache.glob("*.json")
    assert json.loads(about.read_text())["num_queries"] == NUM_ROWS - 1


def test_index_is_the_default_for_large_views_by_cosine_alone(folder, cache, monkeypatch):
    monkeypatch.setattr(nearest_index, "_LARGEST_EXACT", 50 * 32)
    store = open_store(folder)

    def method(**asked) -> bytes:
        return store.nearest("image", np.ones(32), **asked).schema.metadata[b"method"]

    assert method() == b"approximate"
    assert method(approximate=False) == method(metric="dot") == method(where="key < '0040'") == b"exact"


def test_index_of_a_view_without_embeddings_is_refused(cache, tmp_path):
    build_store(tmp_path / "store", [{"key": "a"}], {"image": {"vectors": [None], "dim": 4}})
    with pytest.raises(StoreError, match="has no embedding to find"):
        open_store(tmp_path / "store").nearest("image", np.ones(4), approximate=True)


def test_search_without_faiss_is_exact_unless_asked_for(folder, cache, monkeypatch):
    monkeypatch.setattr(nearest_index, "find_spec", lambda name: None)
    monkeypatch.setattr(nearest_index, "_LARGEST_EXACT", 0)
    store = open_store(folder)
    assert store.nearest("image", np.ones(32)).schema.metadata[b"method"] == b"exact"
    with pytest.raises(StoreError, match=r"faiss-cpu: pip install -e '.\[ann\]'"):
        store.nearest("image", np.ones(32), approximate=True)


def test_approximate_search_is_by_cosine(folder):
    with pytest.raises(ValueError, match="approximate search is by cosine"):
        open_store(folder).nearest("image", np.ones(32), metric="dot", approximate=True)


def test_indexes_that_nobody_used_for_long_are_removed_when_one_is_built(folder, cache):
    cache.mkdir(parents=True)
    for name in ("old.faiss", "old.json", "new.faiss", "new.json"):
        (cache / name).touch()
    os.utime(cache / "old.faiss", (0, 0))
    open_store(folder).nearest("image", keys="0001", approximate=True)
    assert not list(cache.glob("old*"))
    assert len(list(cache.glob("new*"))) == 2
