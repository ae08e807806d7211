import tracemalloc
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.key_kernels import CLOSED
from features.key_tables import KeyTables
from features.mapping import MappedVectors


class Tables:
    """Tables over shards of sorted keys, with a vector of one number for each key: its row."""

    def __init__(self, keys: Sequence[str], num_rows: int) -> None:
        self.starts = np.array([*range(0, len(keys), num_rows), len(keys)])
        self.shards = [keys[start:stop] for start, stop in pairwise(self.starts.tolist())]
        self.opened: list[int] = []
        self.tables = KeyTables([shard[0] for shard in self.shards], keys[-1], self.starts)
        self.maps = MappedVectors(self.starts, 1, "float32", most_maps=1000)

    def find(self, keys: Sequence[str]) -> list[int]:
        rows_K, shards_K = self.tables.find("\n".join(keys), len(keys), self._read)
        for row, shard in zip(rows_K.tolist(), shards_K.tolist(), strict=True):
            assert row < 0 or shard == bisect_right(self.starts, row) - 1
        return rows_K.tolist()

    def open_maps(self) -> None:
        rows_N = self.starts[:-1]
        self.maps.gather(rows_N, np.arange(len(rows_N)), self._read_vectors)

    def _read_vectors(self, shard: int) -> np.ndarray:
        return np.arange(*self.starts[shard : shard + 2], dtype=np.float32)[:, None]

    def _read(self, shard: int) -> pa.Array:
        self.opened.append(shard)
        return pa.array(["beside", *self.shards[shard], "beside"]).slice(1, len(self.shards[shard]))


# Few letters, so that many keys begin alike, are the beginning of others, and differ only far behind.
LETTERS = st.text("ab\x80é\U0001f600", max_size=4)
KEYS = st.builds(lambda head, middle, tail: head + 9 * middle + tail, LETTERS, LETTERS, LETTERS)


@given(st.sets(KEYS, min_size=1, max_size=60), st.integers(1, 20), st.lists(KEYS, max_size=20))
@settings(deadline=None)
def test_find_gives_the_rows_of_known_keys_and_of_no_others(known: set[str], num_rows: int, other: list[str]) -> None:
    keys = sorted(known)
    tables = Tables(keys, num_rows)
    asked = [*keys[::-1], *other]
    expected = [keys.index(key) if key in known else -1 for key in asked]

    assert tables.find(asked) == expected
    assert tables.find(asked) == expected
    assert sorted(tables.opened) == sorted(set(tables.opened))


@given(st.sets(st.integers(0, 10**6), min_size=1, max_size=300), st.integers(1, 40))
@settings(deadline=None)
def test_find_gives_the_rows_of_keys_as_sources_name_them(numbers: set[int], num_rows: int) -> None:
    keys = sorted(f"corpus/recording{number // 7:06}/{number % 7:04}" for number in numbers)

    assert Tables(keys, num_rows).find(keys) == list(range(len(keys)))


def test_find_opens_only_the_shards_of_the_keys() -> None:
    tables = Tables([f"k{number:04}" for number in range(1000)], 10)

    assert tables.find(["k0005", "k0995", "k0006"]) == [5, 995, 6]
    assert tables.opened == [0, 99]


def test_find_tells_lines_from_keys() -> None:
    tables = Tables(["a", "b", "c"], 2)

    assert tables.find(["a\nb", "c"]) == [-1, -1]
    assert tables.find(["a", "b", "c"]) == [0, 1, 2]


def test_fetch_gives_vectors_once_all_is_open() -> None:
    keys = [f"{number:05}" for number in range(0, 4000, 3)]
    tables = Tables(keys, 100)
    text = "\n".join(keys[::-1])

    def left_out() -> list[int]:
        vectors, places = tables.tables.fetch(text, len(keys), tables.maps)
        filled = np.delete(np.arange(len(keys)), places)
        assert np.array_equal(vectors[filled, 0], np.arange(len(keys))[::-1][filled])
        return places.tolist()

    assert left_out() == list(range(len(keys)))  # no keys are open
    tables.find(keys)
    assert left_out() == list(range(len(keys)))  # no vectors are
    tables.open_maps()
    assert left_out() == []
    vectors, places = tables.tables.fetch("00000\n00001\n00003", 3, tables.maps)
    assert (vectors[[0, 2], 0].tolist(), places.tolist()) == ([0, 1], [1])


def test_fetch_leaves_out_what_is_closed_alone() -> None:
    keys = [f"{number:03}" for number in range(100)]
    tables = Tables(keys, 10)
    tables.open_maps()
    tables.find(keys[:20])

    vectors, places = tables.tables.fetch("\n".join(["005", "045", "019"]), 3, tables.maps)
    assert (vectors[[0, 2], 0].tolist(), places.tolist()) == ([5, 19], [1])


@pytest.mark.parametrize("dim", [1, 3, 7, 100])
def test_fetch_copies_vectors_of_any_length(dim: int) -> None:
    vectors = np.random.default_rng(0).standard_normal((50, dim)).astype(np.float16)
    keys = [f"{number:02}" for number in range(50)]
    starts = np.array([0, 50])
    tables = KeyTables(["00"], "49", starts)
    maps = MappedVectors(starts, dim, "float16", most_maps=2)
    tables.find("07", 1, lambda _: pa.array(keys))
    maps.gather(np.array([0]), np.array([0]), lambda _: vectors)

    fetched, places = tables.fetch("49\n00\n07", 3, maps)
    assert np.array_equal(fetched, vectors[[49, 0, 7]])
    assert len(places) == 0


def test_tables_take_next_to_no_memory() -> None:
    keys = [f"key{number:06}" for number in range(40_000)]
    arrays = [pa.array(keys[start : start + 200]) for start in range(0, len(keys), 200)]
    starts = np.arange(0, len(keys) + 1, 200)
    tables = KeyTables(keys[::200], keys[-1], starts)
    tracemalloc.start()
    try:
        found = tables.find("\n".join(keys[::100]), 400, arrays.__getitem__)
        num_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert found[0].tolist() == list(range(0, len(keys), 100))
    assert num_bytes < len(keys)


def test_keys_that_a_table_cannot_tell_apart_leave_their_shard_closed() -> None:
    starts = np.array([0, 2, 4])
    tables = KeyTables(["a", "c"], "d", starts)
    shards = [pa.array(["a", "a"]), pa.array(["c", "d"])]  # the same key twice has the same tag under any seed

    found = tables.find("a\nd\nc", 3, shards.__getitem__)
    assert found[0].tolist() == [CLOSED, 3, 2]
    assert tables.find("a\nd", 2, shards.__getitem__)[0].tolist() == [CLOSED, 3]
