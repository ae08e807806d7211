from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import StoreError
from features.keys import KeySearch
from features.recent import Recent
from features.shards import Shard


class Shards:
    """Shards of keys in memory, a search over them, and which of them it read."""

    def __init__(self, keys: Sequence[str], num_rows: int) -> None:
        self.keys = [keys[start : start + num_rows] for start in range(0, len(keys), num_rows)]
        self.read: set[int] = set()
        shards = [Shard("s", "s.arrow", len(part), part[0], part[-1], "") for part in self.keys]
        self.starts = np.cumsum([0, *map(len, self.keys)])
        self.at_hand: Recent[int, pa.Array] = Recent(100)
        self.search = KeySearch(shards, self.starts, Path("store"), self.at_hand)

    def locate(self, keys: Sequence[str]) -> list[int]:
        rows_K, shards_K = self.search.locate(keys, self._read)
        assert all(self.starts[shard] <= row for row, shard in zip(rows_K, shards_K, strict=True))
        return rows_K.tolist()

    def _read(self, index: int) -> pa.Array:
        self.read.add(index)
        return pa.array(["beside", *self.keys[index], "beside"]).slice(1, len(self.keys[index]))


TEXTS = st.text(st.characters(codec="utf-8"), max_size=5)


@given(st.sets(TEXTS, min_size=1, max_size=60), st.integers(1, 20), st.data())
@settings(deadline=None)
def test_search_agrees_with_the_order_of_keys(known: set[str], num_rows: int, data: st.DataObject) -> None:
    keys = sorted(known)
    shards = Shards(keys, num_rows)
    asked = data.draw(st.lists(st.sampled_from(keys), max_size=40))

    assert [shards.locate([key])[0] for key in asked] == [keys.index(key) for key in asked]
    assert shards.locate(asked) == [keys.index(key) for key in asked]


@given(st.sets(TEXTS, min_size=1, max_size=30), st.sets(st.text(max_size=5), min_size=1, max_size=30))
@settings(deadline=None)
def test_search_refuses_every_key_that_is_not_there(known: set[str], asked: set[str]) -> None:
    shards = Shards(sorted(known), 4)
    unknown = sorted(asked - known)
    if unknown:
        with pytest.raises(StoreError, match=f"^store lacks {len(unknown)} of "):
            shards.locate([*known, *unknown])


def test_search_reads_only_the_shards_that_may_hold_the_keys() -> None:
    shards = Shards([f"k{number:04}" for number in range(1000)], 10)

    assert shards.locate(["k0005", "k0995"]) == [5, 995]
    assert shards.read == {0, 99}


def test_search_finds_the_same_once_many_keys_were_asked_for() -> None:
    keys = [f"k{number:05}" for number in range(5000)]
    shards = Shards(keys, 50)
    asked = keys[:250:5]

    assert shards.locate(asked) == list(range(0, 250, 5))
    assert shards.locate(keys) == list(range(5000))
    assert shards.locate(asked[::-1]) == list(range(245, -1, -5))
    for unknown in ("k00005x", "k0", "a", "z", "", "k00005\nk00006", "\udcff"):
        with pytest.raises(StoreError, match=r"^store lacks 1 of the keys: "):
            shards.locate(["k00005", unknown])
    with pytest.raises(StoreError, match="the key 7 is no text but int"):
        shards.locate(["k00005", 7])


def test_search_reads_no_shard_again_whose_keys_are_at_hand_as_its_tables_are_made() -> None:
    keys = [f"k{number:05}" for number in range(5000)]
    shards = Shards(keys, 50)
    for index in range(1, 100):
        shards.at_hand.keep(index, pa.array(shards.keys[index]))

    assert shards.locate(keys[:10] * 500) == list(range(10)) * 500
    assert shards.locate(keys) == list(range(5000))
    assert shards.read == {0}


def test_search_names_the_first_unknown_keys_and_one_near_in_the_next_shard() -> None:
    shards = Shards([f"rec{number:03}/a" for number in range(30)], 10)

    with pytest.raises(StoreError) as error:
        shards.locate(["rec010", "rec003/a", "x", "y", "z"])
    assert str(error.value) == "store lacks 4 of the keys: 'rec010', 'x', 'y', ..., did you mean 'rec010/a'?"


@pytest.mark.parametrize("count", [1, 20])
def test_search_takes_texts_only(count: int) -> None:
    shards = Shards([f"k{number}" for number in range(10)], 10)

    with pytest.raises(StoreError, match="the key 7 is no text but int"):
        shards.locate([7] * count)
    with pytest.raises(StoreError, match="keys is the text 'k1'; pass a list of keys"):
        shards.locate("k1")


def test_search_without_any_shard_knows_no_key() -> None:
    shards = Shards([], 1)

    assert shards.locate([]) == []
    with pytest.raises(StoreError, match=r"store lacks 20 of the keys: 'a', 'a', 'a', \.\.\.$"):
        shards.locate(["a"] * 20)
