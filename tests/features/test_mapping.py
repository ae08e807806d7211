import weakref
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


def mapped_over(shards: list[np.ndarray], *, most_maps: int = 1000) -> MappedVectors:
    starts = np.cumsum([0, *map(len, shards)])
    dim, dtype = shards[0].shape[1], str(shards[0].dtype)
    return MappedVectors(starts, dim, dtype, most_maps=most_maps)


def gather(mapped: MappedVectors, shards: list[np.ndarray], rows: list[int]) -> np.ndarray:
    starts = np.cumsum([0, *map(len, shards)])
    rows_N = np.array(rows, dtype=np.int64)
    return mapped.gather(rows_N, np.searchsorted(starts, rows_N, side="right") - 1, shards.__getitem__)


@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=8),
    st.integers(1, 9),
    st.sampled_from(["float16", "float32"]),
    st.integers(2, 9),
    st.data(),
)
@settings(deadline=None)
def test_gather_agrees_with_indexing_whichever_shards_come_first(
    lengths: list[int], dim: int, dtype: str, most_maps: int, data: st.DataObject
) -> None:
    shards = shards_of(lengths, dim, dtype)
    mapped = mapped_over(shards, most_maps=most_maps)
    for rows in data.draw(st.lists(st.lists(st.integers(0, sum(lengths) - 1), max_size=12), max_size=4)):
        found = gather(mapped, shards, rows)
        assert found.dtype == dtype
        assert found.tolist() == np.concatenate(shards)[rows].tolist()
        assert found.shape == (len(rows), dim)


def test_gather_opens_only_the_shards_of_the_rows() -> None:
    shards = shards_of([2, 2, 2], 3, "float32")
    opened: list[int] = []

    def read(shard: int) -> np.ndarray:
        opened.append(shard)
        return shards[shard]

    mapped = MappedVectors(np.array([0, 2, 4, 6]), 3, "float32", most_maps=3)
    for rows in ([0, 5], [1, 4, 5]):
        mapped.gather(np.array(rows), np.array(rows) // 2, read)

    assert opened == [0, 2]


@pytest.mark.parametrize(("dim", "dtype"), [(65_536, "float16"), (200_000, "float32")])
def test_gather_takes_vectors_of_any_size(dim: int, dtype: str) -> None:
    shards = shards_of([2, 1], dim, dtype)

    assert np.array_equal(gather(mapped_over(shards), shards, [2, 0]), np.concatenate(shards)[[2, 0]])


def test_maps_are_closed_and_stay_as_long_as_they_are_in_use() -> None:
    opened: list[weakref.ref[np.ndarray]] = []

    def read(shard: int) -> np.ndarray:
        vectors = np.full((3, 2), shard, np.float32)
        opened.append(weakref.ref(vectors))
        return vectors

    mapped = MappedVectors(np.arange(0, 301, 3), 2, "float32", most_maps=10)
    assert mapped.rows_at_once == 5
    numbers, places_N, maps = mapped.places(np.array([0, 3, 6]), np.arange(3), read)
    for shard in range(3, 100):
        assert mapped.gather(np.array([3 * shard]), np.array([shard]), read).tolist() == [[shard, shard]]
        # Those that are open, those that were when the places were found, and the one that the array begins with.
        assert sum(vectors() is not None for vectors in opened) <= 10 + 10 + 1
    assert numbers[places_N].tolist() == [0, 1, 2]

    del numbers, maps
    mapped.gather(np.arange(0, 300, 3), np.arange(100), read)
    # Where the system puts an array is up to it: that the array begins with may be one of these.
    assert sum(vectors() is not None for vectors in opened[:3]) <= 1
    with pytest.raises(ValueError, match="6 rows; the shards of at most 5 are open at once"):
        mapped.places(np.arange(6), np.zeros(6, np.int64), read)


@pytest.mark.parametrize("most_maps", [1000, 12])
def test_gather_gives_threads_the_same_as_one(most_maps: int) -> None:
    shards = shards_of([3] * 200, 4, "float32")
    whole = np.concatenate(shards)
    mapped = mapped_over(shards, most_maps=most_maps)
    order = np.random.default_rng(0).permutation(600).reshape(100, 6).tolist()

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda rows: gather(mapped, shards, rows), order))

    assert all(np.array_equal(vectors, whole[rows]) for vectors, rows in zip(found, order, strict=True))
