"""Unions of intervals."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pipelines.media.unions import length_s, meet, merge

intervals = st.lists(st.tuples(st.integers(0, 30), st.integers(-3, 10)).map(lambda t: (t[0], t[0] + t[1])), max_size=8)


def moments(found: list[tuple[float, float]]) -> set[int]:
    return {moment for start, end in found for moment in range(int(start), int(end))}


@given(intervals, intervals)
def test_unions_are_those_of_sets_of_moments(left: list[tuple[int, int]], right: list[tuple[int, int]]) -> None:
    ours, theirs = merge(left), merge(right)
    assert moments(ours) == moments(left)
    assert all(before[1] < after[0] for before, after in pairwise(ours))
    assert moments(meet(ours, theirs)) == moments(left) & moments(right)
    assert length_s(ours) == len(moments(left))
    assert length_s(meet(ours, theirs)) == len(moments(left) & moments(right))
