from dataclasses import replace

import pytest
import torch

from features.errors import StageError
from fusion.config import TrainConfig
from fusion.dataset import UNKNOWN, Batch
from fusion.fitting import fit, kept_epoch, standardise
from fusion.models import FusionModel, deterministic


def _batch(values: list[float], present: list[bool], classes: list[int]) -> Batch:
    vectors = torch.tensor(values)[:, None] * torch.tensor([1.0, 0.0])
    return Batch([vectors * torch.tensor(present)[:, None]], torch.tensor(present)[:, None], torch.tensor(classes))


def _model() -> FusionModel:
    with deterministic(0):
        return FusionModel([2], 2, hidden=4, dropout=0.0)


def test_standardise_takes_present_samples_over_all_batches() -> None:
    model = _model()
    standardise(model, [_batch([1.0, 99.0], [True, False], [0, 0]), _batch([5.0], [True], [1])])
    weights = model.state_dict()
    assert weights["projections.0.mean_D"].tolist() == [3.0, 0.0]
    assert weights["projections.0.scale_D"].tolist() == [0.5, 0.0], "a constant feature must not be blown up"


def test_fit_keeps_the_weights_of_the_lowest_val_loss(config: TrainConfig) -> None:
    train = [_batch([1.0, -1.0], [True, True], [0, 1])]
    against_train = [_batch([1.0, -1.0], [True, True], [1, 0])]
    model = _model()
    curve = fit(model, train, against_train, replace(config, patience=3))
    best = kept_epoch(curve)
    assert len(curve) == best.epoch + 3
    loss = torch.nn.functional.cross_entropy(
        model(against_train[0].vectors, against_train[0].present_BV), against_train[0].classes_B
    )
    assert loss.item() == pytest.approx(best.val_loss)


def test_fit_without_val_runs_all_epochs_and_keeps_the_last(config: TrainConfig) -> None:
    curve = fit(_model(), [_batch([1.0, -1.0], [True, True], [0, 1])], None, replace(config, epochs=5))
    assert [epoch.epoch for epoch in curve] == [1, 2, 3, 4, 5]
    assert kept_epoch(curve) == curve[-1]
    assert curve[-1].val_loss is None


def test_fit_counts_a_val_label_that_train_lacks_as_wrong(config: TrainConfig) -> None:
    train = [_batch([1.0, -1.0], [True, True], [0, 1])]
    val = [_batch([1.0, -1.0, 1.0, 1.0], [True] * 4, [0, 1, UNKNOWN, UNKNOWN])]
    curve = fit(_model(), train, val, config)
    assert curve[-1].val_accuracy == 0.5


def test_fit_names_the_cure_when_the_loss_explodes(config: TrainConfig) -> None:
    with deterministic(0):
        model = FusionModel([2], 2, hidden=16, dropout=0.0)
    train = [_batch([1.0, -1.0, 0.5], [True] * 3, [0, 1, 1])]
    with pytest.raises(StageError, match=r"must be finite: lower train.learning_rate, which is 1e\+25"):
        fit(model, train, None, replace(config, learning_rate=1e25))
