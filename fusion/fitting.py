"""Fit one model: standardise by the train split, descend, keep the epoch that val liked best."""

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy

from features.errors import StageError
from fusion.config import TrainConfig
from fusion.dataset import UNKNOWN, Batch
from fusion.models import FusionModel, Projection

_MIN_STD = 1e-6  # a feature that varies less says nothing, and dividing by it would blow up noise


@dataclass(frozen=True)
class Epoch:
    """Mean losses a sample, in nats, and the share of val that was right; val's are null where there is no val."""

    epoch: int
    train_loss: float
    val_loss: float | None
    val_accuracy: float | None


def standardise(model: FusionModel, batches: Iterable[Batch]) -> None:
    """Set each view's mean and scale to those of the samples that have it."""
    projections = [projection for projection in model.projections if isinstance(projection, Projection)]
    counts_V = torch.zeros(len(projections), dtype=torch.float64)
    sums = [torch.zeros_like(projection.mean_D, dtype=torch.float64) for projection in projections]
    squares = [total_D.clone() for total_D in sums]
    for batch in batches:
        counts_V += batch.present_BV.sum(0)
        for vectors_BD, sum_D, square_D in zip(batch.vectors, sums, squares, strict=True):
            wide_BD = vectors_BD.double()  # absent rows are zero and add nothing
            sum_D += wide_BD.sum(0)
            square_D += wide_BD.square().sum(0)
    for projection, count, sum_D, square_D in zip(projections, counts_V.clamp(min=1), sums, squares, strict=True):
        mean_D = sum_D / count
        std_D = (square_D / count - mean_D.square()).clamp(min=0).sqrt()
        projection.mean_D.copy_(mean_D)
        projection.scale_D.copy_(torch.where(std_D > _MIN_STD, 1 / std_D, 0.0))


def fit(model: FusionModel, train: Iterable[Batch], val: Iterable[Batch] | None, config: TrainConfig) -> list[Epoch]:
    """Train the model in place and return its curve; with val, the weights of the lowest val loss are kept and
    config.patience epochs without a lower one end the training.

    Raises StageError if the loss leaves the numbers.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    curve: list[Epoch] = []
    best_loss, best_epoch, best_weights = math.inf, 0, model.state_dict()
    for number in range(1, config.epochs + 1):
        train_loss = _descend(model, train, optimizer)
        val_loss, val_accuracy = _validate(model, val) if val is not None else (None, None)
        if not math.isfinite(train_loss + (val_loss or 0)):
            raise StageError(
                f"the loss is {train_loss} in train and {val_loss} in val after epoch {number}, and must be finite: "
                f"lower train.learning_rate, which is {config.learning_rate:g}"
            )
        curve.append(Epoch(number, train_loss, val_loss, val_accuracy))
        if val_loss is None:
            continue
        if val_loss < best_loss:
            best_loss, best_epoch, best_weights = val_loss, number, copy.deepcopy(model.state_dict())
        elif number - best_epoch >= config.patience:
            break
    if val is not None:
        model.load_state_dict(best_weights)
    return curve


def kept_epoch(curve: list[Epoch]) -> Epoch:
    """The epoch whose weights fit() kept: the first of the lowest val loss, without val the last."""
    with_val = [epoch for epoch in curve if epoch.val_loss is not None]
    return min(with_val, key=lambda epoch: epoch.val_loss or 0.0) if with_val else curve[-1]


def _descend(model: FusionModel, train: Iterable[Batch], optimizer: torch.optim.Optimizer) -> float:
    model.train()
    total_loss, num_rows = 0.0, 0
    for batch in train:
        loss = cross_entropy(model(batch.vectors, batch.present_BV), batch.classes_B)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()
        total_loss += loss.item() * len(batch.classes_B)
        num_rows += len(batch.classes_B)
    return total_loss / num_rows


@torch.no_grad()
def _validate(model: FusionModel, val: Iterable[Batch]) -> tuple[float, float]:
    """A label that train lacks has no loss, but can only be answered wrong."""
    model.eval()
    total_loss, num_known, num_right, num_rows = 0.0, 0, 0, 0
    for batch in val:
        logits_BC = model(batch.vectors, batch.present_BV)
        loss = cross_entropy(logits_BC, batch.classes_B, ignore_index=UNKNOWN, reduction="sum")
        total_loss += loss.item()
        num_known += int((batch.classes_B != UNKNOWN).sum())
        num_right += int((logits_BC.argmax(1) == batch.classes_B).sum())
        num_rows += len(batch.classes_B)
    return total_loss / num_known, num_right / num_rows
