"""Reduced views through embed: what they are fitted on, and what is kept when samples come."""

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpus import digests
from counting import take_log
from reducing import TEXTS, both, run
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler, normalize

import features
import pipelines.embed
from features.check import check
from features.errors import PlaitError, ReductionError, ShardError
from features.files import open_first
from features.manifest import view_schema
from features.reductions import FittedStep, fit_batch
from features.rev import digest_file, feature_key
from features.shards import read_shard
from features.view import View
from features.writing import view_batch, write_shard
from pipelines.job import ShardTask
from pipelines.progress import ShardProgress
from pipelines.reduced_worker import BaseShard, ReduceShard


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    run(folder, TEXTS, both(folder / "log"))
    return folder


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "project"))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def shards_of(store: Path) -> list[Path]:
    return [path for path in (store / "small").glob("*.arrow") if not path.name.startswith("fit")]


def fit_of(store: Path) -> str:
    (path,) = (store / "small").glob("fit-*.arrow")
    return path.name


def test_rows_are_those_of_scikit_learn_fitted_on_the_training_rows(made: Path) -> None:
    store = features.open(made / "features")
    train = [key for key, text in TEXTS.items() if key.startswith("train") and text not in (None, "bad")]
    base_ND = store.get(train, "words").astype(np.float64)
    scaler = StandardScaler().fit(base_ND)
    pca = PCA(2, whiten=True, svd_solver="full").fit(scaler.transform(base_ND))

    keys = [key for key, text in TEXTS.items() if text not in (None, "bad")]
    expected = normalize(pca.transform(scaler.transform(store.get(keys, "words").astype(np.float64))))
    np.testing.assert_allclose(store.get(keys, "small"), expected, atol=1e-6)


def test_what_is_absent_stays_absent(made: Path) -> None:
    store = features.open(made / "features")
    absent = ["train05", "train11", "val03"]

    assert np.isnan(store.get(absent, "small")).all()
    assert store.views["small"].num_present == store.views["words"].num_present == len(TEXTS) - len(absent)
    assert {row["key"] for row in store.rejects.to_pylist()} == {"train11"}
    assert list(check(store)) == []


def test_a_reduced_view_is_asked_as_any_other(made: Path) -> None:
    store = features.open(made / "features")
    vector = store.get(["val01"], "small")[0]

    assert store.nearest("small", vector, k=1)["key"].to_pylist() == ["val01"]
    assert store.sql("select max(len(small)) as dim from samples")["dim"].to_pylist() == [2]
    assert len(store.table(["words", "small"], split="val")) == 8
    assert next(iter(store.batches(["small"], batch_size=4)))["small"].shape == (4, 2)
    assert store.lineage("val01")["views"]["small"]["made_from"] == "view words"


def test_a_sample_outside_of_train_leaves_fit_and_rows(project: Path, log: Path) -> None:
    before = digests(project / "features" / "small")
    store = run(project, {**TEXTS, "val20": "a new one", "train03~1": "a copy"}, both(log))

    after = digests(store / "small")
    kept = before.items() & after.items()
    assert take_log(log) == ["a copy", "a new one"]
    assert fit_of(store) in dict(kept)
    assert len(before) - len(kept) <= 2
    assert list(check(features.open(store))) == []


@pytest.mark.parametrize("key", ["train30", "train03"])
def test_another_training_sample_writes_the_reduced_view_alone_anew(project: Path, log: Path, key: str) -> None:
    before = digests(project / "features")
    store = run(project, {**TEXTS, key: "a new one"}, both(log))

    after = digests(store)
    kept = {name for name, digest in before.items() if after.get(name) == digest}
    assert take_log(log) == ["a new one"]
    assert not [name for name in kept if name.startswith("small/")]
    assert len([name for name in kept if name.startswith("words/")]) >= len(list((store / "words").iterdir())) - 2
    assert list(check(features.open(store))) == []


def test_growth_and_threads_give_the_bytes_of_a_run_from_scratch(tmp_path: Path, log: Path) -> None:
    few = {key: text for key, text in TEXTS.items() if key not in ("train00", "val05", "train17")}
    run(tmp_path / "grown", {**few, "train40": "gone"}, both(log))
    stores = [
        run(tmp_path / name, TEXTS, both(log), threads=threads)
        for name, threads in (("grown", 1), ("one", 1), ("two", 2))
    ]

    assert digests(stores[0]) == digests(stores[1]) == digests(stores[2])


def test_nothing_changed_writes_nothing(project: Path, log: Path) -> None:
    store = project / "features"
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*.arrow")}
    run(project, TEXTS, both(log))

    assert {path: path.stat().st_mtime_ns for path in store.rglob("*.arrow")} == before
    assert take_log(log) == []


def test_a_run_that_was_cut_off_is_finished_by_the_next(
    project: Path, log: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    texts = {**TEXTS, "train30": "a new one"}
    old = features.open(project / "features")
    with monkeypatch.context() as patched:
        patched.setattr(pipelines.embed, "_publish", lambda *_: sys.exit(1))
        with pytest.raises(SystemExit):
            run(project, texts, both(log))
    written = {path: path.stat().st_mtime_ns for path in shards_of(project / "features")}
    lost = next(path for path in written if path.name not in old.views["small"].files.values())
    lost.unlink()  # as if the run had ended before it
    take_log(log)
    store = run(project, texts, both(log))

    assert take_log(log) == []
    assert digests(store) == digests(run(tmp_path / "whole", texts, both(log)))
    assert [path for path in shards_of(store) if written[path] != path.stat().st_mtime_ns] == [lost]
    assert open_first(old.files, f"small/{old.views['small'].fit_file}", digest_file) == old.views["small"].fit


def test_a_damaged_fit_is_found_and_made_again(project: Path, log: Path) -> None:
    store = project / "features"
    before = digests(store)
    path = store / "small" / fit_of(store)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)

    assert [(problem.where, problem.rule) for problem in check(features.open(store))] == [
        (f"small/{path.name}", "digest")
    ]
    with pytest.raises(ShardError, match="is not what the manifest says: delete it and run 'dvc repro'"):
        run(project, TEXTS, both(log))
    path.unlink()
    assert [problem.rule for problem in check(features.open(store))] == ["missing"]
    assert digests(run(project, TEXTS, both(log))) == before


@pytest.mark.parametrize("steps", [["standardise"], ["l2"]])  # the fit reads the base, or the rows alone do
def test_nothing_is_taken_from_a_damaged_base(project: Path, log: Path, steps: Any) -> None:
    for path in (project / "features" / "words").iterdir():
        stat, content = path.stat(), path.read_bytes()
        vector = read_shard(path)["embedding"][-1].values.to_numpy()
        path.write_bytes(content.replace(vector.tobytes(), (vector + 1).tobytes()))
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # damage that is not seen by the time of the file

    with pytest.raises(PlaitError, match=r"words/.* is not what the manifest says: delete it and run 'dvc repro'"):
        run(project, TEXTS, both(log, steps))


def test_sequences_are_reduced_vector_by_vector(tmp_path: Path, log: Path) -> None:
    store = features.open(run(tmp_path, TEXTS, both(log, ["standardise"], pooling="sequence")))
    train = [key for key, text in TEXTS.items() if key.startswith("train") and text not in (None, "bad")]
    words = [found for found in store.get_sequences(train, "words") if found is not None]
    scaler = StandardScaler().fit(np.concatenate([found.vectors_TD for found in words]).astype(np.float64))

    (before,), (after,) = (store.get_sequences(["val01"], view) for view in ("words", "small"))
    assert before is not None
    assert after is not None
    np.testing.assert_allclose(after.vectors_TD, scaler.transform(before.vectors_TD.astype(np.float64)), atol=1e-6)
    assert after.times_T2.tolist() == before.times_T2.tolist()
    assert store.get_sequences(["val03"], "small") == [None]
    assert list(check(store)) == []


def test_l2_alone_is_fitted_on_nothing(tmp_path: Path, log: Path) -> None:
    texts = {key: text for key, text in TEXTS.items() if key.startswith("val")}
    store = run(tmp_path, texts, both(log, ["l2"]))
    before = digests(store / "small")
    run(tmp_path, {**texts, "train00": "more"}, both(log, ["l2"]))

    assert len(before.items() - digests(store / "small").items()) <= 1


@pytest.mark.parametrize(
    ("texts", "steps", "said"),
    [
        (
            {"val1": "a", "val2": "b"},
            ["standardise"],
            "fitted on the samples of split 'train', and none of them has text",
        ),
        ({"train1": "a", "train2": "b"}, [{"pca": 2}], "pca to 2, but 2 training samples vary in 1 directions at most"),
    ],
)
def test_what_cannot_be_fitted_is_said_before_any_work(
    tmp_path: Path, log: Path, texts: dict[str, str | None], steps: Any, said: str
) -> None:
    with pytest.raises(ReductionError, match=f"view 'small'.*{said}"):
        run(tmp_path, texts, both(log, steps))
    assert take_log(log) == []
    assert not (tmp_path / "features").exists()


def test_a_pca_to_more_than_a_stored_base_has_is_said_before_any_work(project: Path, log: Path) -> None:
    with pytest.raises(ReductionError, match="view 'small': pca to 5 of vectors of 4 numbers: ask for 4 or fewer"):
        run(project, {**TEXTS, "val30": "new"}, both(log, [{"pca": 5}]))
    assert take_log(log) == []


def test_training_rows_that_are_all_alike_cannot_be_turned(tmp_path: Path, log: Path) -> None:
    texts: dict[str, str | None] = {f"train{index}": "same" for index in range(5)}
    with pytest.raises(ReductionError, match="view 'small': pca to 1, but the 5 training rows vary in 0 directions"):
        run(tmp_path, texts, both(log, [{"pca": 1}]))


def test_reduce_shard_rejects_what_its_dtype_cannot_hold(tmp_path: Path) -> None:
    schema = view_schema(dim=1, dtype="float32", is_sequence=False)
    vectors = [np.ones(1, np.float32), np.full(1, 70.0, np.float32), None]
    feature_keys = [feature_key("base", digest) for digest in ("one", "two", None)]
    write_shard(tmp_path / "base", view_batch(schema, ["a", "b", "c"], feature_keys, vectors))
    write_shard(tmp_path / "fit", fit_batch([FittedStep("standardise", np.zeros(1), scale_K=np.full(1, 1e-3))]))
    view = View(name="small", input="text", encoder="standardise")
    task = ShardTask(
        "one", str(tmp_path), "one.arrow", "0", 3, BaseShard(str(tmp_path / "base"), digest_file(tmp_path / "base"))
    )
    record = ReduceShard(view, "rev", "base", 1, str(tmp_path / "fit"))(task, ShardProgress(tmp_path / "progress"))

    table = read_shard(task.path)
    assert table["embedding"].to_pylist() == [[1000.0], None, None]
    assert table["feature_key"].to_pylist() == [
        *(feature_key("rev", feature_key("base", digest)) for digest in ("one", "two")),
        feature_key("rev", None),
    ]
    assert [(reject.key, reject.reason, reject.dropped) for reject in record.rejects] == [("b", "non_finite", "text")]
    assert record.rejects[0].text == "view small: the reduced embedding is not finite in float16"
