import json

import numpy as np
import pytest
from building import build_store

import features
from features.stats import count_samples, stats


def test_stats_counts_samples_labels_and_rejects(tmp_path):
    samples = [
        {"key": "a", "label": "x", "start_s": 2.0, "end_s": 3.5},
        {"key": "a+1", "label": "x", "variant": 1, "has_audio": False, "start_s": 2.0, "end_s": 3.5},
        {"key": "b", "label": None, "has_video": False},
        {"key": "c", "label": "y", "split": "test", "has_text": False},
    ]
    rejects = [
        {"key": key, "stage": stage, "reason": reason, "dropped": "sample", "text": ""}
        for key, stage, reason in [("p", "clean", "silent"), ("q", "clean", "silent"), ("r", "align", "empty")]
    ]
    rejects.append({"key": "a", "stage": "align", "reason": "overlap", "dropped": "nothing", "text": ""})
    build_store(tmp_path, samples, {"image": {"vectors": [np.ones(2)] * 4}}, shard_rows=1, rejects=rejects)
    found = stats(features.open(tmp_path))
    counts = {"total": 3, "text": 3, "image": 3, "audio": 2, "video": 2, "original": 2, "augmented": 1, "seconds": 1.5}
    assert found["num_samples"] == 4
    assert found["samples"]["train"] == counts
    assert found["samples"]["val"]["total"] == 0
    assert found["samples"]["test"]["text"] == 0
    assert found["labels"] == {"train": {"x": 2}, "val": {}, "test": {"y": 1}}
    assert found["unlabelled"] == {"train": 1, "val": 0, "test": 0}
    assert found["rejects"] == {"clean": {"silent": 2}, "align": {"empty": 1}}
    assert found["warnings"] == {"align": {"overlap": 1}}


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_stats_measures_views_across_shards(tmp_path, dtype):
    vectors = [np.array([3, 4, 0]), None, np.array([3, 0, 0]), np.array([3, np.inf, np.nan]), np.array([3, 4, 0])]
    build_store(
        tmp_path, [{"key": key} for key in "abcde"], {"image": {"vectors": vectors, "dtype": dtype}}, shard_rows=1
    )
    found = stats(features.open(tmp_path))["views"]["image"]
    assert (found["rows"], found["present"], found["non_finite"], found["vectors"]) == (5, 4, 1, 3)
    assert found["dead_dimensions"] == 2
    assert [found["norm"][part] for part in ("min", "mean", "max")] == pytest.approx([3, 13 / 3, 5])
    assert found["deviations"] == pytest.approx([0, np.std([4, 0, 4]), 0])
    assert found["length"] is None


def test_stats_measures_sequences_vector_by_vector(tmp_path):
    vectors = [np.array([[3.0, 4.0], [np.nan, 0], [np.nan, 0]]), None, np.zeros((0, 2)), np.array([[0.0, 1.0]])]
    times = [None if found is None else np.zeros((len(found), 2)) for found in vectors]
    build_store(tmp_path, [{"key": key} for key in "abcd"], {"words": {"vectors": vectors, "times": times}})
    found = stats(features.open(tmp_path))["views"]["words"]
    assert (found["present"], found["non_finite"], found["vectors"]) == (3, 1, 2)
    assert (found["norm"]["min"], found["norm"]["max"]) == (1, 5)
    assert (found["length"]["min"], found["length"]["max"], found["length"]["mean"]) == (0, 3, pytest.approx(4 / 3))
    assert found["length"]["histogram"] == {"edges": [-0.5, 0.5, 1.5, 2.5, 3.5], "counts": [1, 1, 0, 1]}


def test_stats_of_nothing_are_null_and_json(tmp_path):
    build_store(tmp_path, [{"key": "a"}], {"image": {"vectors": [None], "dim": 3}})
    found = stats(features.open(tmp_path))
    assert json.loads(json.dumps(found)) == found
    image = found["views"]["image"]
    assert (image["present"], image["norm"], image["dead_dimensions"], image["deviations"]) == (0, None, None, None)
    assert found["repeats"] == image["equal_inputs"] == {"rows": 0, "across_splits": 0, "pairs": []}


def test_stats_norms_do_not_overflow_in_float16(tmp_path):
    build_store(tmp_path, [{"key": "a"}], {"image": {"vectors": [np.full(4, 60000.0)], "dtype": "float16"}})
    assert stats(features.open(tmp_path))["views"]["image"]["norm"]["max"] == pytest.approx(120000, rel=1e-3)


def test_stats_tells_which_modalities_samples_have_together(tmp_path):
    lacking = [(), ("audio",), ("audio",), ("text", "image", "audio", "video"), ("audio", "video")]
    samples = [{"key": str(row), **{f"has_{name}": False for name in names}} for row, names in enumerate(lacking)]
    build_store(tmp_path, samples, {}, shard_rows=1)
    found = stats(features.open(tmp_path))["modalities"]
    assert found["together"] == [
        {"modalities": ["text", "image", "video"], "samples": 2},
        {"modalities": ["text", "image", "audio", "video"], "samples": 1},
        {"modalities": ["text", "image"], "samples": 1},
        {"modalities": [], "samples": 1},
    ]
    assert found["pairs"]["text"] == {"text": 4, "image": 4, "audio": 1, "video": 3}
    assert found["pairs"]["video"]["audio"] == found["pairs"]["audio"]["video"] == 1


def test_stats_finds_equal_embeddings_and_whether_they_straddle_splits(tmp_path):
    one, other = np.array([1.0, 2.0]), np.array([2.0, 1.0])
    sequences = [np.stack([one, other]), None, np.stack([one, other]), np.stack([other, one]), one[None]]
    times = [None if found is None else np.zeros((len(found), 2)) for found in sequences]
    views = {
        "image": {"vectors": [one, one, None, other, one]},
        "words": {"vectors": sequences, "times": times},
    }
    samples = [{"key": key, "split": split} for key, split in zip("abcde", ["train"] * 4 + ["test"], strict=True)]
    build_store(tmp_path, samples, views, shard_rows=1)
    found = stats(features.open(tmp_path))["views"]
    assert found["image"]["equal_embeddings"] == {"rows": 2, "across_splits": 3, "pairs": [["a", "b"], ["a", "e"]]}
    assert found["words"]["equal_embeddings"] == {"rows": 1, "across_splits": 0, "pairs": [["a", "c"]]}
    assert found["image"]["equal_inputs"]["rows"] == 0  # each built row has an input of its own


def test_stats_finds_samples_whose_every_input_repeats(tmp_path):
    vectors = [np.ones(2)] * 3
    build_store(tmp_path, [{"key": key} for key in "abc"], {"image": {"vectors": vectors, "inputs": list("xyx")}})
    found = stats(features.open(tmp_path))
    assert found["repeats"] == {"rows": 1, "across_splits": 0, "pairs": [["a", "c"]]}


def test_count_samples_lists_the_commonest_label_first(tmp_path):
    build_store(tmp_path, [{"key": str(row), "label": label} for row, label in enumerate("bcaacc")], {}, shard_rows=1)
    assert list(count_samples(features.open(tmp_path))["labels"]["train"].items()) == [("c", 3), ("a", 2), ("b", 1)]
