from collections import defaultdict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from features.repeats import find_repeats, hash_rows


def test_hash_rows_differ_as_the_rows_do():
    hashes = hash_rows([b"a", memoryview(b"a"), b"b", b""])
    assert hashes.dtype == np.uint64
    assert hashes[0] == hashes[1]
    assert len(set(hashes.tolist())) == 3


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2), st.booleans()), max_size=30))
def test_find_repeats_agrees_with_a_plain_count(rows):
    """A row is a content, a split and whether it is there at all."""
    row_N = np.array([row for row, (_, _, there) in enumerate(rows) if there], np.int64)
    hash_N = hash_rows(bytes([rows[row][0]]) for row in row_N)
    split_R = np.array([split for _, split, _ in rows], np.uint8)
    found = find_repeats(hash_N, row_N, split_R, str)

    groups = defaultdict(list)
    for row in row_N.tolist():
        groups[rows[row][0]].append(row)
    pairs = sorted((again, group[0]) for group in groups.values() for again in group[1:])
    assert found["rows"] == len(pairs)
    assert found["pairs"] == [[str(first), str(again)] for again, first in pairs[:5]]
    straddling = [group for group in groups.values() if len({rows[row][1] for row in group}) > 1]
    assert found["across_splits"] == sum(map(len, straddling))
