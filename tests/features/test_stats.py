import json

import numpy as np
import pytest
from building import build_store

import features
from features.stats import stats


def test_stats_counts_samples_labels_and_rejects(tmp_path):
    samples = [
        {"key": "a", "label": "x"},
        {"key": "a+1", "label": "x", "variant": 1, "has_audio": False},
        {"key": "b", "label": None, "has_video": False},
        {"key": "c", "label": "y", "split": "test", "has_text": False},
    ]
    rejects = [
        {"key": key, "stage": stage, "reason": reason, "dropped": "sample", "text": ""}
        for key, stage, reason in [("p", "clean", "silent"), ("q", "clean", "silent"), ("r", "align", "empty")]
    ]
    build_store(tmp_path, samples, {"image": {"vectors": [np.ones(2)] * 4}}, shard_rows=1, rejects=rejects)
    found = stats(features.open(tmp_path))
    counts = {"total": 3, "text": 3, "image": 3, "audio": 2, "video": 2, "original": 2, "augmented": 1}
    assert found["num_samples"] == 4
    assert found["samples"]["train"] == counts
    assert found["samples"]["val"]["total"] == 0
    assert found["samples"]["test"]["text"] == 0
    assert found["labels"] == {"train": {"x": 2}, "val": {}, "test": {"y": 1}}
    assert found["unlabelled"] == {"train": 1, "val": 0, "test": 0}
    assert found["rejects"] == {"clean": {"silent": 2}, "align": {"empty": 1}}


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_stats_measures_views_across_shards(tmp_path, dtype):
    vectors = [np.array([3, 4, 0]), None, np.array([3, 0, 0]), np.array([3, np.inf, np.nan]), np.array([3, 4, 0])]
    build_store(
        tmp_path, [{"key": key} for key in "abcde"], {"image": {"vectors": vectors, "dtype": dtype}}, shard_rows=1
    )
    found = stats(features.open(tmp_path))["views"]["image"]
    assert (found["rows"], found["present"], found["non_finite"], found["vectors"]) == (5, 4, 1, 3)
    assert found["dead_dimensions"] == 2
    assert (found["norm_min"], found["norm_mean"], found["norm_max"]) == pytest.approx((3, 13 / 3, 5))


def test_stats_measures_sequences_vector_by_vector(tmp_path):
    vectors = [np.array([[3.0, 4.0], [np.nan, 0], [np.nan, 0]]), None, np.zeros((0, 2)), np.array([[0.0, 1.0]])]
    times = [None if found is None else np.zeros((len(found), 2)) for found in vectors]
    build_store(tmp_path, [{"key": key} for key in "abcd"], {"words": {"vectors": vectors, "times": times}})
    found = stats(features.open(tmp_path))["views"]["words"]
    assert (found["present"], found["non_finite"], found["vectors"]) == (3, 1, 2)
    assert (found["norm_min"], found["norm_max"]) == (1, 5)


def test_stats_of_nothing_are_null_and_json(tmp_path):
    build_store(tmp_path, [{"key": "a"}], {"image": {"vectors": [None], "dim": 3}})
    found = stats(features.open(tmp_path))
    assert json.loads(json.dumps(found)) == found
    image = found["views"]["image"]
    assert (image["present"], image["norm_mean"], image["dead_dimensions"]) == (0, None, None)


def test_stats_norms_do_not_overflow_in_float16(tmp_path):
    build_store(tmp_path, [{"key": "a"}], {"image": {"vectors": [np.full(4, 60000.0)], "dtype": "float16"}})
    assert stats(features.open(tmp_path))["views"]["image"]["norm_max"] == pytest.approx(120000, rel=1e-3)
