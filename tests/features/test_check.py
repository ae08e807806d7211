import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from building import build_store

import features
from features.check import check
from features.compact import Shards
from features.manifest import Manifest
from features.rev import digest_file
from features.shards import Shard, describe_shard, read_shard

KEYS = [f"rec{number}/{part}" for number in range(4) for part in range(4)]
TIMES = np.array([[0.0, 0.5], [0.5, 1.0]])


def build_sound(folder: Path, *, shard_rows: int) -> None:
    """A sound store: one text is missing, and one frame could not be encoded."""
    samples = [
        {"key": key, "text": None if row == 5 else "said", "has_text": row != 5, "start_s": 0.0, "end_s": 1.0}
        for row, key in enumerate(KEYS)
    ]
    samples[0]["words"] = [{"start_s": 0.0, "end_s": 0.6, "text": "so"}, {"start_s": 0.4, "end_s": 1.0, "text": "said"}]
    texts = [None if row == 5 else np.full(3, row) for row in range(len(KEYS))]
    frames = [np.full((2, 2), row) for row in range(len(KEYS))]
    views = {
        "text": {"vectors": texts},
        "frames": {"vectors": frames, "times": [TIMES] * len(KEYS), "input": "video", "dtype": "float32"},
    }
    rejects = [{"key": "x", "stage": "clean", "reason": "silent", "dropped": "audio", "text": ""}]
    build_store(folder, samples, views, shard_rows=shard_rows, rejects=rejects)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    build_sound(folder, shard_rows=2)
    return folder


@pytest.fixture
def folder(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "store"))


def _rules(folder: Path) -> set[tuple[str, str]]:
    """Which rule is broken in which folder of the store."""
    return {(Path(problem.where).parts[0], problem.rule) for problem in check(features.open(folder))}


def _edit_manifest(folder: Path, edit: Callable[[Manifest], Manifest]) -> None:
    edit(features.open(folder).manifest).save(folder)


def _rewrite(folder: Path, name: str, edit: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    """Write the first shard of the samples or of a view anew, and make the manifest say so."""
    manifest = features.open(folder).manifest
    shard = manifest.shards[0]
    path = folder / name / (shard.file if name == "samples" else manifest.views[name].files[shard.name])
    table = read_shard(path)
    written = pa.Table.from_pylist(edit(table.to_pylist()), schema=table.schema).combine_chunks()
    _publish(folder, name, path, written)


def _publish(folder: Path, name: str, path: Path, table: pa.Table) -> None:
    path.unlink()
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as sink:
        sink.write_table(table)
    manifest = features.open(folder).manifest
    shard = manifest.shards[0]
    if name == "samples":
        shards = (replace(describe_shard(shard.name, path), num_rows=shard.num_rows), *manifest.shards[1:])
        replace(manifest, shards=Shards.of(shards)).save(folder)
    else:
        view = manifest.views[name]
        view = replace(view, digests={**view.digests, shard.name: digest_file(path)})
        replace(manifest, views={**manifest.views, name: view}).save(folder)


def _first(column: str, value: Any) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    return lambda rows: [{**rows[0], column: value}, *rows[1:]]


def test_check_finds_nothing_in_a_sound_store(folder):
    assert len(features.open(folder).manifest.shards) > 3
    assert list(check(features.open(folder))) == []


def test_check_of_an_empty_store_finds_nothing(tmp_path):
    build_store(tmp_path, [], {"image": {"vectors": [], "dim": 3}})
    assert list(check(features.open(tmp_path))) == []


def test_problem_is_one_line_with_a_cure(folder):
    path = sorted((folder / "text").iterdir())[0]
    path.write_bytes(path.read_bytes()[:-1])
    (problem,) = check(features.open(folder))
    assert str(problem).startswith(f"text/{path.name}: digest: its sha256 is {digest_file(path)[:12]}.., the manifest")
    assert str(problem).endswith("; delete it, then run 'dvc checkout' or, where that has no sound copy, 'dvc repro'")


def test_check_names_missing_and_unlisted_files(folder):
    shutil.move(sorted((folder / "samples").iterdir())[0], folder / "text" / "other.arrow")
    problems = {problem.rule: problem for problem in check(features.open(folder))}
    assert problems.keys() == {"missing", "unlisted"}
    assert problems["unlisted"].where == "text/other.arrow"
    assert "not on disk" in problems["missing"].found


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        ("key", "rec9", "order"),
        ("split", "dev", "split"),
        ("variant", -1, "variant"),
        ("end_s", 0.0, "interval"),
        ("start_s", None, "interval"),
        ("has_text", False, "modality"),
        ("words", [{"start_s": 0.5, "end_s": 1.1, "text": "late"}], "words"),
        ("words", [{"start_s": -0.1, "end_s": 0.5, "text": "early"}], "words"),
        ("words", [{"start_s": 0.5, "end_s": 0.4, "text": "back"}], "words"),
        ("words", [{"start_s": None, "end_s": 0.4, "text": "never"}], "words"),
        ("words", [{"start_s": start_s, "end_s": 0.9, "text": "falls"} for start_s in (0.5, 0.4)], "words"),
    ],
)
def test_check_tells_broken_rules_of_samples(folder, column, value, rule):
    _rewrite(folder, "samples", _first(column, value))
    assert ("samples", rule) in _rules(folder)


def test_check_tells_a_copy_outside_of_train(folder):
    _rewrite(folder, "samples", lambda rows: [{**row, "split": "test", "variant": 1} for row in rows])
    assert ("samples", "variant") in _rules(folder)


def test_check_tells_a_group_in_two_splits(folder):
    _rewrite(folder, "samples", _first("split", "test"))
    (problem,) = check(features.open(folder))
    assert (problem.where, problem.rule) == ("samples", "group")
    assert "1 groups are in more than one split, as 'rec0' in test and train" in problem.found


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        ("key", "rec0/x", "join"),
        ("feature_key", "abc", "feature_key"),
        ("embedding", [float("nan")] * 3, "finite"),
        ("embedding", [float("inf")] * 3, "finite"),
        ("embedding", None, "reject"),
    ],
)
def test_check_tells_broken_rules_of_views(folder, column, value, rule):
    _rewrite(folder, "text", _first(column, value))
    assert ("text", rule) in _rules(folder)


def test_check_counts_the_embeddings_of_a_view(folder):
    _edit_manifest(
        folder, lambda old: replace(old, views={**old.views, "text": replace(old.views["text"], num_present=3)})
    )
    (problem,) = check(features.open(folder))
    assert problem.found == "view 'text' has 15 embeddings, the manifest says 3"


def test_check_takes_a_reject_of_embed_as_the_reason_of_an_absence(tmp_path):
    reject = {"key": "a", "stage": "embed", "reason": "non_finite", "dropped": "image", "text": ""}
    for rejects in ([], [reject]):
        folder = tmp_path / str(len(rejects))
        views = {"image": {"vectors": [None, np.ones(2)]}}
        build_store(folder, [{"key": key, "text": ""} for key in "ab"], views, rejects=rejects)
        assert ("image", "reject") in _rules(folder) or rejects
        assert ("image", "reject") not in _rules(folder) or not rejects


def test_check_tells_an_embedding_without_its_modality(tmp_path):
    build_store(tmp_path, [{"key": "a", "text": "", "has_image": False}], {"image": {"vectors": [np.ones(2)]}})
    assert {("image", "modality"), ("image", "feature_key")} == _rules(tmp_path)


def test_check_tells_a_value_under_a_null(tmp_path):
    build_store(tmp_path, [{"key": "a", "text": "", "has_image": False}], {"image": {"vectors": [None], "dim": 2}})
    path = next((tmp_path / "image").iterdir())
    table = read_shard(path)
    zeros = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(2, np.float16)), 2, mask=pa.array([True]))
    _publish(tmp_path, "image", path, table.set_column(2, table.schema.field(2), zeros))
    assert _rules(tmp_path) == {("image", "absence")}


@pytest.mark.parametrize("reorder", [lambda rows: [*reversed(rows)], lambda rows: [rows[0], *rows[:-1]]])
def test_check_tells_rows_out_of_place(folder, reorder):
    def shuffled(rows):
        keys = [row["key"] for row in reorder(rows)]
        return [{**row, "key": key} for row, key in zip(rows, keys, strict=True)]

    _rewrite(folder, "frames", shuffled)
    assert _rules(folder) == {("frames", "join")}


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("start_s", [0.5, 0.0]),
        ("start_s", [0.5, 0.5]),
        ("end_s", [0.5]),
        ("end_s", [0.5, float("nan")]),
        ("end_s", [0.0, 1.0]),
    ],
)
def test_check_tells_unsound_intervals(folder, column, value):
    _rewrite(folder, "frames", _first(column, value))
    assert _rules(folder) == {("frames", "interval")}


def test_check_takes_two_vectors_of_one_interval(folder):
    _rewrite(folder, "frames", lambda rows: [{**rows[0], "start_s": [0.0, 0.0], "end_s": [0.5, 0.5]}, *rows[1:]])
    assert _rules(folder) == set()


@pytest.mark.parametrize("num_vectors", [1, 3])
def test_check_takes_a_sequence_without_a_clock(folder, num_vectors):
    never = [float("nan")] * num_vectors
    clockless = {"start_s": never, "end_s": never, "embedding": [[0.0, 1.0]] * num_vectors}
    _rewrite(folder, "frames", lambda rows: [{**rows[0], **clockless}, *rows[1:]])
    assert _rules(folder) == set()


def test_check_tells_a_sequence_without_vectors(folder):
    _rewrite(folder, "frames", lambda rows: [{**rows[0], "start_s": [], "end_s": [], "embedding": []}, *rows[1:]])
    assert _rules(folder) == {("frames", "absence")}


def test_check_tells_two_embeddings_of_one_feature_key(folder):
    _rewrite(folder, "text", lambda rows: [{**row, "feature_key": rows[0]["feature_key"]} for row in rows])
    assert _rules(folder) == {("text", "feature_key")}
    old = features.open(folder).manifest
    view = replace(old.views["text"], deterministic=False, caveat="a GPU")
    replace(old, views={**old.views, "text": view}).save(folder)
    assert _rules(folder) == set()


def test_check_tells_boundaries_that_the_keys_do_not_give(folder):
    _edit_manifest(folder, lambda old: replace(old, steps={"embed": {"shard_samples": 5}}))
    (problem,) = check(features.open(folder))
    assert (problem.rule, problem.where.split("/")[0]) == ("boundary", "samples")


def test_check_settles_boundaries_as_the_keys_come(tmp_path):
    samples = [{"key": f"{number:04}", "text": ""} for number in range(100)]
    build_store(tmp_path, samples, {}, shard_rows=1)
    assert list(check(features.open(tmp_path))) == []


@pytest.mark.parametrize(
    ("edit", "rule"),
    [
        (lambda shard: replace(shard, num_rows=shard.num_rows + 1), "count"),
        (lambda shard: replace(shard, last_key="rec9"), "ends"),
        (lambda shard: replace(shard, digest="0" * 64), "digest"),
    ],
)
def test_check_compares_with_the_manifest(folder, edit: Callable[[Shard], Shard], rule):
    _edit_manifest(folder, lambda old: replace(old, shards=Shards.of([edit(old.shards[0]), *old.shards[1:]])))
    assert ("samples", rule) in _rules(folder)


def test_check_tells_another_schema(folder):
    manifest = features.open(folder).manifest
    path = folder / "samples" / manifest.shards[0].file
    _publish(folder, "samples", path, read_shard(path).drop_columns("meta"))
    (problem,) = check(features.open(folder))
    assert (problem.rule, problem.found) == ("schema", "it should have pyarrow.Field<meta: string>")


def test_check_tells_unknown_reasons(tmp_path):
    reject = {"key": "x", "stage": "clean", "reason": "bored", "dropped": "smell", "text": ""}
    build_store(tmp_path, [{"key": "a", "text": ""}], {}, rejects=[reject])
    assert [problem.rule for problem in check(features.open(tmp_path))] == ["rejects", "rejects"]
