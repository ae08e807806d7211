import pickle
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.compact import ByShard, Names, Rows, Shards, Texts
from features.shards import Shard

ANY_TEXT = st.text(st.characters(codec=None), max_size=300)
SHARD = Shard("one", "one-1.arrow", 2, "a", "é", "d1")


@given(st.lists(ANY_TEXT, max_size=8))
def test_texts_are_those_that_were_given(texts: list[str]) -> None:
    held = Texts(texts)

    assert list(held) == texts
    assert [held[place] for place in range(len(held))] == texts
    with pytest.raises(IndexError):
        held[len(texts)]


@given(st.lists(st.tuples(ANY_TEXT, st.integers(), st.none()), max_size=8))
def test_rows_are_those_that_were_given(rows: list[tuple[str, int, None]]) -> None:
    held = Rows.of(rows)

    assert [held[place] for place in range(len(held))] == [list(row) for row in rows]
    assert [row for columns in held.blocks() for row in zip(*columns, strict=True)] == rows
    assert [pickle.loads(pickle.dumps(held))[place] for place in range(len(held))] == [list(row) for row in rows]
    with pytest.raises(IndexError):
        held[len(rows)]


def test_rows_come_in_blocks() -> None:
    held = Rows.of([place, str(place)] for place in range(1000))

    blocks = list(held.blocks())
    assert len(blocks) > 1
    assert [number for numbers, _ in blocks for number in numbers] == list(range(1000))
    assert held[999] == [999, "999"]


@given(st.sets(ANY_TEXT, max_size=20), ANY_TEXT)
def test_names_know_their_places_and_no_others(names: set[str], other: str) -> None:
    listed = list(names)
    held = Names(listed)

    assert [held.place(name) for name in listed] == list(range(len(listed)))
    assert other in names or held.place(other) is None


def test_by_shard_is_the_mapping_of_names_to_texts() -> None:
    held = ByShard(Names(["two", "one"]), Rows.of([["beside", "second"], ["beside", "first"]]), 1)

    assert held == {"two": "second", "one": "first"}
    assert list(held) == ["two", "one"]
    assert held.get("three") is None
    with pytest.raises(KeyError, match="three"):
        held["three"]


def test_shards_are_those_that_were_given() -> None:
    empty = Shard("two", "two-1.arrow", 0, None, None, "d2")
    shards = Shards.of([SHARD, empty])

    assert list(shards) == [SHARD, empty]
    assert (shards[-1], shards[:1], shards[5:]) == (empty, [SHARD], [])
    assert shards.num_rows.tolist() == [2, 0]
    assert list(shards.filled()) == [SHARD]
    assert shards.filled().filled() == Shards.of([SHARD])
    assert Shards.of([SHARD]) != Shards.of([replace(SHARD, digest="d2")])
    assert list(Shards.of([])) == []


def test_shards_of_the_same_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two shards have the name 'one'"):
        Shards.of([SHARD, SHARD])
