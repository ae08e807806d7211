import shutil
import string
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from building import build_store
from hypothesis import given, settings
from hypothesis import strategies as st

import features
from features.diff import diff_stores, differing
from features.sample import SPLITS

KINDS = ("added", "removed", "changed")
Make = Callable[..., features.Store]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Writes a store under a name of its own and opens it."""

    def build(samples: list[dict[str, Any]], views: dict[str, Any], **options: Any) -> features.Store:
        folder = tmp_path / f"store{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        build_store(folder, samples, views, **options)
        return features.open(folder)

    return build


def _samples(*keys: str, **values: Any) -> list[dict[str, Any]]:
    return [{"key": key, **values} for key in keys]


def _keys(diff: dict[str, Any]) -> dict[str, list[str]]:
    return {kind: diff[kind]["keys"] for kind in KINDS}


def test_diff_of_a_version_with_itself_reads_no_shard(make: Make) -> None:
    store = make(_samples("a", "b"), {"image": {"vectors": [np.ones(2), None]}})
    shutil.rmtree(store.folder / "image")
    found = store.diff(features.open(store.folder))

    assert found["samples"]["unchanged"] == 2
    assert found["views"]["image"]["unchanged"] == 1
    assert found["views"]["image"]["drift"] is None
    assert found["views"]["image"]["settings"] == found["steps"] == {}


def test_diff_lists_keys_by_view_and_says_what_is_not_there(make: Make) -> None:
    vectors = [np.ones(2)] * 4
    old = make(_samples("a", "b", "c", "d"), {"image": {"vectors": [*vectors[:3], None]}, "gone": {"vectors": vectors}})
    new = make(
        _samples("b", "c", "d", "e"),
        {"image": {"vectors": [None, *vectors[:3]], "inputs": ["b", "other", "d", "e"]}, "new": {"vectors": vectors}},
    )
    found = new.diff(old)

    assert found["views_added"] == ["new"]
    assert found["views_removed"] == ["gone"]
    assert _keys(found["samples"]) == {"added": ["e"], "removed": ["a"], "changed": []}
    assert _keys(found["views"]["image"]) == {"added": ["d", "e"], "removed": ["a", "b"], "changed": ["c"]}
    assert found["views"]["image"]["unchanged"] == 0


def test_diff_counts_the_fields_and_labels_that_changed(make: Make) -> None:
    old = make([*_samples("a", "b", label="red"), *_samples("c", split="val")], {})
    new = make(
        [*_samples("a", label="blue"), *_samples("b", label="red", split="val"), *_samples("c", split="val")], {}
    )
    found = new.diff(old)

    assert _keys(found["samples"])["changed"] == ["a", "b"]
    assert found["samples"]["fields"] == {"label": 1, "split": 1}
    assert found["labels"] == {"train": {"blue": [0, 1], "red": [2, 0]}, "val": {"red": [0, 1]}, "test": {}}
    assert found["unlabelled"] == {"train": [0, 0], "val": [1, 1], "test": [0, 0]}


def test_diff_tells_words_that_moved(make: Make) -> None:
    said = [{"start_s": 0.0, "end_s": 0.5, "text": "so"}]
    old = make([{"key": "a", "words": said}, {"key": "b", "words": said}, {"key": "c", "label": "x"}], {})
    new = make([{"key": "a", "words": said}, {"key": "b", "words": []}, {"key": "c", "label": "y"}], {})
    found = new.diff(old)["samples"]

    assert (found["changed"]["keys"], found["fields"]) == (["b", "c"], {"words": 1, "label": 1})


def test_diff_tells_a_recomputed_view_from_changed_input(make: Make) -> None:
    vectors = [np.ones(2), np.full(2, 2.0)]
    old = make(_samples("a", "b"), {"image": {"vectors": vectors, "rev": "1"}})
    new = make(_samples("a", "b"), {"image": {"vectors": vectors, "rev": "2"}})
    view = new.diff(old)["views"]["image"]

    assert view["rev"] == ["1", "2"]
    assert view["changed"]["num"] == 2
    assert view["drift"]["cosines"] == {"keys": 2, "mean": pytest.approx(1), "min": pytest.approx(1)}


def test_diff_lists_as_many_keys_as_wanted_and_counts_all(make: Make) -> None:
    keys = [f"key{number:02}" for number in range(30)]
    view = {"vectors": [np.ones(2)] * 30}
    found = make(_samples(*keys), {"image": {**view, "rev": "2"}}).diff(
        make(_samples(*keys), {"image": view}), num_keys=3
    )

    assert found["views"]["image"]["changed"] == {"num": 30, "keys": keys[:3]}


def test_drift_is_over_all_vectors_of_each_version(make: Make) -> None:
    """Known answers: norms 5 and 10 before and after; a turned by a right angle, b as it was, c not finite."""
    old = make(_samples("a", "b"), {"image": {"vectors": [np.array([3.0, 4, 0]), np.array([0, 6, 8.0])]}})
    new = make(
        _samples("a", "b", "c"),
        {
            "image": {
                "vectors": [np.array([0, 0, 5.0]), np.array([0, 6, 8.0]), np.array([0, np.inf, 1.0])],
                "inputs": ["x", "b", "c"],
            }
        },
    )
    drift = new.diff(old)["views"]["image"]["drift"]

    assert drift["old"]["norm_mean"] == 7.5
    assert drift["old"]["norm_quantiles"]["p50"] == pytest.approx(5, rel=0.002)
    assert drift["old"]["norm_quantiles"]["p95"] == pytest.approx(10, rel=0.002)
    assert drift["old"]["dead_dimensions"] == drift["old"]["non_finite_dimensions"] == 0
    assert drift["new"]["vectors"] == 2
    assert drift["new"]["dead_dimensions"] == pytest.approx(1 / 3)
    assert drift["new"]["non_finite_dimensions"] == pytest.approx(1 / 3)
    assert drift["cosines"] == {"keys": 2, "mean": pytest.approx(0.5), "min": pytest.approx(0)}
    assert drift["cosine_of_means"] == pytest.approx(
        np.dot([3, 10, 8], [0, 6, 13]) / np.linalg.norm([3, 10, 8]) / np.linalg.norm([0, 6, 13])
    )


def test_drift_of_sequences_compares_their_means(make: Make) -> None:
    times = [np.array([[0.0, 1], [1, 2]]), None, np.array([[0.0, 1]])]
    before = [np.array([[1.0, 0], [0, 1]]), None, np.array([[1.0, 0]])]
    after = [np.array([[2.0, 2], [2, 2]]), None, np.array([[0.0, 1]])]
    old = make(_samples("a", "b", "c"), {"words": {"vectors": before, "times": times, "rev": "1"}})
    new = make(_samples("a", "b", "c"), {"words": {"vectors": after, "times": times, "rev": "2"}})
    drift = new.diff(old)["views"]["words"]["drift"]

    assert drift["old"]["vectors"] == 3
    assert drift["cosines"] == {"keys": 2, "mean": pytest.approx(0.5), "min": pytest.approx(0)}


def test_drift_of_another_size_has_no_cosine(make: Make) -> None:
    old = make(_samples("a"), {"image": {"vectors": [np.ones(2)], "rev": "1"}})
    new = make(_samples("a"), {"image": {"vectors": [np.ones(3)], "rev": "2"}})
    drift = new.diff(old)["views"]["image"]["drift"]

    assert drift["cosine_of_means"] is None
    assert drift["cosines"] == {"keys": 0, "mean": None, "min": None}


def test_diff_with_an_empty_version_adds_all(make: Make) -> None:
    empty = make([], {"image": {"vectors": [], "dim": 2}})
    full = make(_samples("a"), {"image": {"vectors": [np.zeros(2)]}})

    assert _keys(full.diff(empty)["views"]["image"])["added"] == ["a"]
    assert _keys(empty.diff(full)["samples"])["removed"] == ["a"]
    assert full.diff(empty)["views"]["image"]["drift"]["old"]["norm_mean"] is None


def test_differing_names_what_one_mapping_lacks() -> None:
    assert differing({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 4}, "e": 5}) == {
        "a.c": [2, 4],
        "d": [3, None],
        "e": [None, 5],
    }


_versions = st.dictionaries(
    st.text(string.ascii_lowercase + "/é", min_size=1, max_size=3),
    st.tuples(st.sampled_from(["x", "y", None]), st.sampled_from(SPLITS)),
    max_size=40,
)


def _open(folder: str, version: dict[str, tuple[str | None, str]], shard_rows: int) -> features.Store:
    rows = dict(sorted(version.items()))
    vectors = [None if value is None else np.full(2, ord(value)) for value, _ in rows.values()]
    samples = [{"key": key, "split": split} for key, (_, split) in rows.items()]
    inputs = [value for value, _ in rows.values()]
    build_store(
        Path(folder), samples, {"image": {"vectors": vectors, "inputs": inputs, "dim": 2}}, shard_rows=shard_rows
    )
    return features.open(folder)


@settings(max_examples=20, deadline=None)
@given(old=_versions, edits=_versions, dropped=st.integers(1, 5), shard_rows=st.sampled_from([4, 8]))
def test_diff_equals_a_comparison_of_sets(old: Any, edits: Any, dropped: int, shard_rows: int) -> None:
    """Also where the two versions cut their shards elsewhere."""
    new = {key: value for number, (key, value) in enumerate(old.items()) if number % (dropped + 1)} | edits
    with tempfile.TemporaryDirectory() as before, tempfile.TemporaryDirectory() as after:
        found = diff_stores(_open(before, old, 8), _open(after, new, shard_rows))

    assert _keys(found["samples"]) == {
        "added": sorted(new.keys() - old.keys()),
        "removed": sorted(old.keys() - new.keys()),
        "changed": sorted(key for key in old.keys() & new.keys() if old[key][1] != new[key][1]),
    }
    was, now = ({key: value for key, (value, _) in version.items() if value} for version in (old, new))
    assert _keys(found["views"]["image"]) == {
        "added": sorted(now.keys() - was.keys()),
        "removed": sorted(was.keys() - now.keys()),
        "changed": sorted(key for key in was.keys() & now.keys() if was[key] != now[key]),
    }
    assert found["unlabelled"] == {
        split: [sum(value[1] == split for value in version.values()) for version in (old, new)] for split in SPLITS
    }
