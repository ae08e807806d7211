import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from features.rows import ShardOfRows


@given(st.lists(st.integers(1, 40), max_size=60))
def test_shard_of_rows_is_the_one_that_holds_them(lengths: list[int]) -> None:
    starts = np.cumsum([0, *lengths])
    rows_N = np.arange(starts[-1])

    assert ShardOfRows(starts)[rows_N].tolist() == np.repeat(np.arange(len(lengths)), lengths).tolist()


def test_shard_of_rows_takes_little_memory() -> None:
    held = ShardOfRows(np.arange(0, 1_000_001, 100))

    assert sum(array.nbytes for array in vars(held).values() if isinstance(array, np.ndarray)) < 250_000
    assert held[np.array([999_999, 0, 100, 99])].tolist() == [9999, 0, 1, 0]
