"""What the models read of a feature store: its pooled views, its labels, and batches of tensors."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from features.errors import StageError
from features.store import Store

CONCAT = "concat"
UNKNOWN = -1  # the class of a label that the train split lacks
_LABELLED = "label is not null"


@dataclass(frozen=True)
class Batch:
    """vectors: float32 [sample, dim], one a view; present_BV: bool [sample, view]; classes_B: int64, or UNKNOWN."""

    vectors: list[Tensor]
    present_BV: Tensor
    classes_B: Tensor


@dataclass(frozen=True)
class SeenView:
    """A view as a model sees it."""

    name: str
    rev: str
    dim: int


class Labelled:
    """The labelled samples of one split over some views; each iteration is one epoch.

    seed is that of the order; with None the order is that of labels().
    """

    def __init__(
        self,
        store: Store,
        split: str,
        views: Sequence[str],
        classes: Sequence[str],
        *,
        batch_size: int,
        seed: int | None,
    ) -> None:
        self._views = views
        self._class_of = {label: index for index, label in enumerate(classes)}
        batches = store.batches(
            views, split=split, where=_LABELLED, batch_size=batch_size, seed=seed or 0, shuffle=seed is not None
        )
        self._loader = batches.loader(pin_memory=False)  # the models are small, and stay where the batches are

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._loader:
            present_BV = torch.stack([batch[f"{view}_present"] for view in self._views], dim=1)
            classes = [self._class_of.get(label, UNKNOWN) for label in batch["label"]]
            yield Batch([batch[view] for view in self._views], present_BV, torch.tensor(classes))


def model_views(store: Store) -> dict[str, list[str]]:
    """The models that a store gives, each with the views it sees: one a pooled view that any sample has, and their
    concatenation.

    Raises StageError if a view has the name of the concatenation.
    """
    pooled = sorted(name for name, view in store.views.items() if not view.is_sequence and view.num_present)
    if CONCAT in pooled:
        raise StageError(f"view {CONCAT!r} has the name of the model over all views: rename it in embed.views")
    models = {name: [name] for name in pooled}
    return {**models, CONCAT: pooled} if len(pooled) > 1 else models


def seen_views(store: Store, views: Sequence[str]) -> list[SeenView]:
    """The views as the store holds them now."""
    return [SeenView(name, store.views[name].rev, store.views[name].dim) for name in views]


def labels(store: Store, split: str) -> list[str]:
    """The labels of a split in key order; samples without one are left out."""
    labelled = store.table([], split=split).column("label").drop_null()
    return [str(label) for label in labelled.to_pylist()]


def groups(store: Store, split: str) -> list[str]:
    """The group of each sample that labels() covers."""
    return [str(group) for group in store.table([], split=split, where=_LABELLED).column("group").to_pylist()]


def has_labels(store: Store) -> bool:
    """Whether any sample is labelled; a store without labels is whole, it only trains nothing."""
    return store.samples.column("label").null_count < len(store)


def check_labels(store: Store) -> None:
    """Raise StageError if a labelled store cannot train a classifier and test it."""
    for split in ("train", "test"):
        if not labels(store, split):
            num_rows = len(store.rows(split=split))
            raise StageError(
                f"split {split!r} has 0 labelled samples of {num_rows}, and a model needs some to {split}: change "
                "ingest.split.seed or its shares, or give a split column"
            )
    counts = Counter(labels(store, "train"))
    if len(counts) < 2:
        raise StageError(
            f"split 'train' has only the label {next(iter(counts))!r}, and a classifier needs two or more: mend the "
            "labels, change ingest.split.seed or its shares, or give a split column"
        )
