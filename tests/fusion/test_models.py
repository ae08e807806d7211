import pytest
import torch

from fusion.models import FusionModel, deterministic


def _model(num_views: int) -> FusionModel:
    with deterministic(3):
        return FusionModel([4] * num_views, 3, hidden=8, dropout=0.5)


def test_model_reads_nothing_of_an_absent_vector_but_its_absence() -> None:
    model = _model(2).eval()
    present = torch.tensor([[True, False]])
    vector = torch.ones(1, 4)
    absent = [model([vector, other], present) for other in (torch.zeros(1, 4), torch.full((1, 4), 1e6))]
    assert torch.equal(*absent)
    average = model([vector, torch.zeros(1, 4)], torch.tensor([[True, True]]))
    assert not torch.equal(absent[0], average)


def test_model_never_hides_its_only_view() -> None:
    model = FusionModel([4], 3, hidden=8, dropout=0.0).train()
    vectors, present = [torch.randn(64, 4)], torch.ones(64, 1, dtype=torch.bool)
    assert torch.equal(model(vectors, present), model.eval()(vectors, present))


def test_model_hides_views_only_in_training() -> None:
    model = FusionModel([4, 4], 3, hidden=8, dropout=0.0)
    vectors, present = [torch.randn(64, 4), torch.randn(64, 4)], torch.ones(64, 2, dtype=torch.bool)
    with deterministic(0):
        trained = model.train()(vectors, present)
    assert not torch.equal(trained, model.eval()(vectors, present))
    assert torch.equal(model(vectors, present), model(vectors, present))


def test_deterministic_puts_the_callers_settings_back() -> None:
    before = (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), torch.get_rng_state())
    with pytest.raises(RuntimeError, match="invalid for input of size 5"), deterministic(1):
        torch.rand(5).view(0, 3)
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before[:2]
    assert torch.equal(torch.get_rng_state(), before[2])
