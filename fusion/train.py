"""Train one classifier a view and one over all of them, from the feature store alone."""

import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from features.rev import seed_of
from features.store import Store, open_store
from fusion.config import TrainConfig
from fusion.dataset import Labelled, check_labels, has_labels, labels, model_views, seen_views
from fusion.fitting import Epoch, fit, kept_epoch, standardise
from fusion.models import FusionModel, deterministic
from fusion.plots import CURVES_FILE, write_curves
from fusion.trained import ModelCard, remove_others, save_model


def train(config: TrainConfig, store_folder: Path, out: Path) -> list[str]:
    """Write <model>.json and <model>.safetensors a model, and curves.csv; return the models' names.

    Equal stores and configs give equal bytes. A store without any label, or any pooled view, trains nothing and
    says so. Raises StageError if the labels cannot train and test a classifier.
    """
    store = open_store(store_folder)
    models = model_views(store) if has_labels(store) else {}
    _print_left_out(store)
    if models:
        check_labels(store)
    curves = {name: _train_model(name, views, config, store, out) for name, views in models.items()}
    write_curves(out / CURVES_FILE, curves)
    remove_others(out, models)
    return list(models)


def _train_model(name: str, views: Sequence[str], config: TrainConfig, store: Store, out: Path) -> list[Epoch]:
    classes = sorted(set(labels(store, "train")))

    def labelled(split: str, seed: int | None = None) -> Labelled:
        return Labelled(store, split, views, classes, batch_size=config.batch_size, seed=seed)

    seen = seen_views(store, views)
    with deterministic(seed_of(config.seed, name)):
        dims = [view.dim for view in seen]
        model = FusionModel(dims, len(classes), hidden=config.hidden, dropout=config.dropout)
        standardise(model, labelled("train"))
        val = labelled("val") if _knows_any(labels(store, "val"), classes) else None
        curve = fit(model, labelled("train", config.seed), val, config)
    kept = kept_epoch(curve)
    save_model(out, name, ModelCard(classes=classes, views=seen, config=config, epoch=kept.epoch), model)
    right = "no val" if kept.val_accuracy is None else f"val accuracy {kept.val_accuracy:.3f}"
    _say(f"{name}: epoch {kept.epoch} of {len(curve)} kept, train loss {kept.train_loss:.3f}, {right}")
    return curve


def _print_left_out(store: Store) -> None:
    """Say what is not trained on, and why."""
    if not has_labels(store):
        _say("no sample of the store has a label, so there is nothing to train: the features are the product")
        return
    sequences = [name for name, view in store.views.items() if view.is_sequence]
    if sequences:
        _say(f"{', '.join(sequences)} keep sequences and are left out: a model takes views with one vector a sample")
    absent = [name for name, view in store.views.items() if not view.num_present]
    if absent:
        _say(f"{', '.join(absent)}: no sample has any, so that there is nothing to train on")
    if len(sequences) == len(store.views):
        _say("no view is pooled, so there is nothing to train: declare one with pooling 'mean' in embed.views")
        return
    for split in ("train", "val"):
        num_rows = len(store.rows(split=split))
        num_unlabelled = num_rows - len(labels(store, split))
        if num_unlabelled:
            _say(f"{num_unlabelled} of {num_rows} samples of split {split!r} have no label and are left out")
    if not _knows_any(labels(store, "val"), labels(store, "train")):
        _say("split 'val' has no sample with a label of split 'train', so every model trains for all its epochs")


def _knows_any(found: Collection[str], classes: Collection[str]) -> bool:
    return not set(classes).isdisjoint(found)


def _say(line: str) -> None:
    sys.stdout.write(f"train: {line}\n")
