import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from labelled_store import CLASSES, StoreMaker

from features.errors import StageError
from fusion.config import TrainConfig
from fusion.evaluate import evaluate
from fusion.train import train


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_evaluate_finds_that_fusion_beats_each_view_that_tells_only_some_classes_apart(
    make_store: StoreMaker, config: TrainConfig, tmp_path: Path
) -> None:
    store, models, results = make_store(), tmp_path / "models", tmp_path / "results"
    train(config, store, models)
    found = evaluate(store, models, results)
    metrics = json.loads((results / "metrics.json").read_text())
    assert metrics == found["metrics"]
    assert {name: set(block) for name, block in metrics.items()} == {
        name: {"accuracy", "precision", "recall", "f1"} for name in ("audio", "image", "concat")
    }
    # About a fifth of the samples lacks a view, and is told apart as well as the other view can.
    assert metrics["concat"]["accuracy"] > 0.85
    assert max(metrics["audio"]["accuracy"], metrics["image"]["accuracy"]) < 0.75
    assert found["gain"]["low"] > 0
    assert found["num_test"] == 72
    assert found["gain"]["num_groups"] == 12
    assert found["baseline"] == pytest.approx(1 / 3, abs=1e-6)
    evaluation = json.loads((results / "evaluation.json").read_text())
    assert evaluation == {name: value for name, value in found.items() if name != "metrics"}
    confusion = _rows(results / "plots" / "confusion.csv")
    right = [row["actual"] == row["predicted"] for row in confusion]
    assert sum(right) / len(right) == pytest.approx(metrics["concat"]["accuracy"], abs=1e-6)
    assert {row["actual"] for row in confusion} == set(CLASSES)
    assert {path.stem for path in (results / "plots" / "curves").iterdir()} == set(metrics)
    assert list(_rows(results / "plots" / "curves" / "image.csv")[0]) == [
        "epoch",
        "train_loss",
        "val_loss",
        "val_accuracy",
    ]


def test_evaluate_of_an_unlabelled_store_writes_empty_results(
    make_store: StoreMaker, config: TrainConfig, tmp_path: Path
) -> None:
    store, models, results = make_store(relabel=lambda split, label: None), tmp_path / "models", tmp_path / "results"
    train(config, store, models)
    found = evaluate(store, models, results)
    assert (found["metrics"], found["num_test"], found["gain"]) == ({}, 0, None)
    assert json.loads((results / "metrics.json").read_text()) == {}
    assert (results / "plots" / "confusion.csv").read_text() == "actual,predicted\n"
    assert list((results / "plots" / "curves").iterdir()) == []


def test_evaluate_refuses_a_model_of_another_rev(make_store: StoreMaker, config: TrainConfig, tmp_path: Path) -> None:
    train(replace(config, epochs=1), make_store(), tmp_path / "models")
    with pytest.raises(StageError, match=r"model 'audio' is stale: .*audio-r1.*audio-r2.*run 'dvc repro -f train'"):
        evaluate(make_store(rev="r2", name="newer"), tmp_path / "models", tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_evaluate_refuses_a_store_with_a_view_that_no_model_saw(
    make_store: StoreMaker, config: TrainConfig, tmp_path: Path
) -> None:
    train(replace(config, epochs=1), make_store(views=("image",), name="alone"), tmp_path / "models")
    with pytest.raises(StageError, match="has no model 'audio'"):
        evaluate(make_store(), tmp_path / "models", tmp_path / "results")


def test_evaluate_refuses_weights_that_are_not_the_cards(
    make_store: StoreMaker, config: TrainConfig, tmp_path: Path
) -> None:
    store, models = make_store(views=("image",)), tmp_path / "models"
    train(replace(config, epochs=1), store, models)
    with (models / "image.safetensors").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(StageError, match="does not hold the weights that"):
        evaluate(store, models, tmp_path / "results")


def test_evaluate_counts_labels_that_train_lacks_as_wrong(
    make_store: StoreMaker, config: TrainConfig, tmp_path: Path
) -> None:
    store = make_store(relabel=lambda split, label: "new" if split == "test" else label)
    train(replace(config, epochs=1), store, tmp_path / "models")
    found = evaluate(store, tmp_path / "models", tmp_path / "results")
    assert found["num_unknown"] == found["num_test"] == 72
    assert {block["accuracy"] for block in found["metrics"].values()} == {0.0}


def test_evaluate_scores_a_single_view_without_a_concatenation(
    make_store: StoreMaker, config: TrainConfig, tmp_path: Path
) -> None:
    store = make_store(views=("image",))
    train(replace(config, epochs=1), store, tmp_path / "models")
    found = evaluate(store, tmp_path / "models", tmp_path / "results")
    assert set(found["metrics"]) == {"image"}
    assert found["gain"] is None
    assert len(_rows(tmp_path / "results" / "plots" / "confusion.csv")) == 72


def test_evaluate_needs_a_finished_training(make_store: StoreMaker, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="stage 'train' has not finished: run 'dvc repro train'"):
        evaluate(make_store(), tmp_path / "models", tmp_path / "results")
