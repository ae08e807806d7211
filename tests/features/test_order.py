import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.order import EpochOrder

NUM_SAMPLES = st.integers(0, 60)
SIZES = st.integers(1, 12)


def order(num_samples: int, batch_size: int, *, rank: int = 0, world_size: int = 1, seed: int | None = 0) -> EpochOrder:
    return EpochOrder(num_samples, batch_size=batch_size, seed=seed, rank=rank, world_size=world_size)


@given(num_samples=NUM_SAMPLES, batch_size=SIZES, world_size=SIZES, data=st.data())
@settings(max_examples=100)
def test_steps_take_all_that_is_left_and_shares_are_all_of_a_step(num_samples, batch_size, world_size, data):
    position = data.draw(st.integers(0, num_samples))
    steps = list(order(num_samples, batch_size, world_size=world_size).steps(position))
    assert [place for step in steps for place in step] == list(range(position, num_samples))
    places = np.arange(num_samples)
    for step in steps:
        shares = [
            places[order(num_samples, batch_size, rank=rank, world_size=world_size).share(step)]
            for rank in range(world_size)
        ]
        assert np.concatenate(shares).tolist() == list(step)
        assert max(map(len, shares)) <= batch_size
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


@given(num_samples=NUM_SAMPLES, batch_size=SIZES, world_size=SIZES)
@settings(max_examples=100)
def test_steps_are_as_many_as_an_epoch_has(num_samples, batch_size, world_size):
    whole = order(num_samples, batch_size, world_size=world_size)
    assert len(list(whole.steps(0))) == len(whole)


@given(batch_size=st.integers(2, 12), world_size=SIZES, num_samples=NUM_SAMPLES)
@settings(max_examples=100)
def test_steps_leave_no_rank_without_samples_if_they_can(batch_size, world_size, num_samples):
    for step in order(num_samples, batch_size, world_size=world_size).steps(0):
        assert len(step) >= min(world_size, num_samples)


def test_shuffled_order_may_not_change():
    """A state that was saved by another version of this code means places in this very order."""
    rows_N = np.arange(100, 110, dtype=np.uint32)
    orders = [order(10, 4, seed=seed).shuffled(rows_N, epoch).tolist() for seed in (0, 1) for epoch in (0, 1)]
    assert orders == [
        [102, 106, 108, 109, 107, 100, 103, 104, 105, 101],
        [101, 100, 107, 108, 102, 109, 105, 104, 103, 106],
        [105, 102, 101, 103, 106, 100, 108, 107, 109, 104],
        [103, 100, 105, 102, 101, 109, 108, 104, 106, 107],
    ]


def test_shuffled_order_is_that_of_the_rows_without_a_seed():
    assert order(3, 1, seed=None).shuffled(np.array([4, 7, 9]), 5).tolist() == [4, 7, 9]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"rank": 2, "world_size": 2}, "rank is 2; it must be from 0 to below world_size, which is 2"),
        ({"rank": -1, "world_size": 2}, "rank is -1"),
        ({"rank": 0, "world_size": 0}, "world_size, which is 0"),
        ({"rank": None, "world_size": 2}, "give both or none"),
    ],
)
def test_order_refuses_what_cannot_be(wrong, message):
    with pytest.raises(ValueError, match=message):
        EpochOrder(5, **{"batch_size": 2, "seed": 0, "rank": 0, "world_size": 1, **wrong})
