"""Score every trained model on the test split, all of them on the same samples."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from features.errors import StageError
from features.shards import write_json
from features.store import Store, open_store
from fusion.dataset import CONCAT, Labelled, check_labels, groups, has_labels, labels, model_views, seen_views
from fusion.models import deterministic
from fusion.plots import CURVES_FILE, split_curves, write_confusion
from fusion.scores import paired_gain, score
from fusion.trained import check_fresh, load_model

METRICS_FILE = "metrics.json"
EVALUATION_FILE = "evaluation.json"
PLOTS_FOLDER = "plots"


def evaluate(store_folder: Path, models_folder: Path, results_folder: Path) -> dict[str, Any]:
    """Write metrics.json (a block of four scores a model), evaluation.json and the tables of the plots.

    Returns what evaluation.json holds, with the metrics: num_test, num_unknown (test samples whose label train
    lacks: every model is wrong on them), baseline (accuracy of always answering train's commonest label),
    best_single (by test accuracy), and gain (of concat over it in accuracy: gain, low, high, num_groups; null
    without concat).
    Where nothing could be trained the metrics are empty. Raises StageError if a model is missing or stale.
    """
    store = open_store(store_folder)
    models = model_views(store) if has_labels(store) else {}
    if models:
        check_labels(store)
    curves = models_folder / CURVES_FILE
    if not curves.is_file():
        raise StageError(f"{curves} does not exist, so stage 'train' has not finished: run 'dvc repro train'")
    actual = labels(store, "test") if models else []
    predicted = {name: _predict(name, views, store, models_folder) for name, views in models.items()}
    metrics = {name: score(actual, answers) for name, answers in predicted.items()}
    evaluation = _summarise(store, actual, predicted, metrics) if models else _NOTHING
    shown = predicted.get(CONCAT) or next(iter(predicted.values()), [])
    write_confusion(results_folder / PLOTS_FOLDER / "confusion.csv", actual, shown)
    split_curves(curves, results_folder / PLOTS_FOLDER / "curves")
    write_json(results_folder / EVALUATION_FILE, evaluation)
    write_json(results_folder / METRICS_FILE, metrics)
    _say(evaluation)
    return {**evaluation, "metrics": metrics}


_NOTHING: dict[str, Any] = {"num_test": 0, "num_unknown": 0, "baseline": None, "best_single": None, "gain": None}


@torch.no_grad()
def _predict(name: str, views: Sequence[str], store: Store, models_folder: Path) -> list[str]:
    """The model's answer for each labelled test sample, in key order."""
    card, model = load_model(models_folder, name)
    check_fresh(name, card.views, seen_views(store, views))
    answers: list[str] = []
    with deterministic(card.config.seed):
        batches = Labelled(store, "test", views, card.classes, batch_size=card.config.batch_size, seed=None)
        for batch in batches:
            logits_BC = model(batch.vectors, batch.present_BV)
            answers += [card.classes[index] for index in logits_BC.argmax(1).tolist()]
    return answers


def _summarise(
    store: Store, actual: Sequence[str], predicted: Mapping[str, list[str]], metrics: Mapping[str, dict[str, float]]
) -> dict[str, Any]:
    trained_on = Counter(labels(store, "train"))
    commonest = trained_on.most_common(1)[0][0]
    best_single = max((name for name in metrics if name != CONCAT), key=lambda name: metrics[name]["accuracy"])
    right = {name: [a == b for a, b in zip(actual, answers, strict=True)] for name, answers in predicted.items()}
    gain = paired_gain(right[CONCAT], right[best_single], groups(store, "test")) if CONCAT in right else None
    return {
        "num_test": len(actual),
        "num_unknown": sum(label not in trained_on for label in actual),
        "baseline": score(actual, [commonest] * len(actual))["accuracy"],
        "best_single": best_single,
        "gain": asdict(gain) if gain else None,
    }


def _say(evaluation: Mapping[str, Any]) -> None:
    num_test, num_unknown, gain = (evaluation[name] for name in ("num_test", "num_unknown", "gain"))
    parts = [f"{num_test} test samples"] if num_test else ["nothing was trained, so there is nothing to score"]
    if num_test:
        parts.append(f"accuracy of the commonest label alone {evaluation['baseline']:.3f}")
    if num_unknown:
        parts.append(f"{num_unknown} have a label that train lacks, so that every model is wrong on them")
    if gain:
        interval = "" if gain["low"] is None else f" (95%: {gain['low']:+.3f} to {gain['high']:+.3f})"
        parts.append(f"{CONCAT} over {evaluation['best_single']} {gain['gain']:+.3f}{interval}")
    sys.stdout.write(f"evaluate: {'; '.join(parts)}\n")
