from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.mapping import MappedVectors


def shards_of(lengths: list[int], dim: int, dtype: str) -> list[np.ndarray]:
    """[row, dim] for each shard, in memory of its own."""
    starts = np.cumsum([0, *lengths])
    whole = (np.arange(starts[-1] * dim) % 2039).reshape(-1, dim).astype(dtype)
    return [whole[start:stop].copy() for start, stop in pairwise(starts)]


def gather(mapped: MappedVectors, shards: list[np.ndarray], rows: list[int]) -> np.ndarray:
    starts = np.cumsum([0, *map(len, shards)])
    rows_N = np.array(rows, dtype=np.int64)
    return mapped.gather(rows_N, np.searchsorted(starts, rows_N, side="right") - 1, shards.__getitem__)


@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=8),
    st.integers(1, 9),
    st.sampled_from(["float16", "float32"]),
    st.data(),
)
@settings(deadline=None)
def test_gather_agrees_with_indexing_whichever_shards_come_first(
    lengths: list[int], dim: int, dtype: str, data: st.DataObject
) -> None:
    shards = shards_of(lengths, dim, dtype)
    mapped = MappedVectors(np.cumsum([0, *lengths]), dim, dtype)
    for rows in data.draw(st.lists(st.lists(st.integers(0, sum(lengths) - 1), max_size=12), max_size=4)):
        found = gather(mapped, shards, rows)
        assert found.dtype == dtype
        assert found.tolist() == np.concatenate(shards)[rows].tolist()
        assert found.shape == (len(rows), dim)


def test_gather_opens_only_the_shards_of_the_rows() -> None:
    shards = shards_of([2, 2, 2], 3, "float32")
    mapped = MappedVectors(np.array([0, 2, 4, 6]), 3, "float32")
    opened: list[int] = []

    for rows in ([0, 5], [1, 4, 5]):
        mapped.gather(np.array(rows), np.array(rows) // 2, lambda index: opened.append(index) or shards[index])

    assert opened == [0, 2]


@pytest.mark.parametrize(("dim", "dtype"), [(65_536, "float16"), (200_000, "float32")])
def test_gather_takes_vectors_of_any_size(dim: int, dtype: str) -> None:
    shards = shards_of([2, 1], dim, dtype)
    mapped = MappedVectors(np.array([0, 2, 3]), dim, dtype)

    assert np.array_equal(gather(mapped, shards, [2, 0]), np.concatenate(shards)[[2, 0]])


def test_gather_gives_threads_the_same_as_one() -> None:
    shards = shards_of([3] * 200, 4, "float32")
    whole = np.concatenate(shards)
    mapped = MappedVectors(np.arange(0, 601, 3), 4, "float32")
    order = np.random.default_rng(0).permutation(600).reshape(100, 6).tolist()

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda rows: gather(mapped, shards, rows), order))

    assert all(np.array_equal(vectors, whole[rows]) for vectors, rows in zip(found, order, strict=True))
