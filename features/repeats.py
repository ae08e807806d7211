"""Rows that repeat another, found by their hashes: 8 bytes a row are held, not the rows."""

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

_NUM_PAIRS = 5


def hash_rows(rows: Iterable[bytes | memoryview]) -> np.ndarray:
    """uint64 [row], a hash of each; equal by accident with probability n^2 / 4e19 among n of them."""
    digests = b"".join(hashlib.blake2b(row, digest_size=8).digest() for row in rows)
    return np.frombuffer(digests, np.uint64)


def find_repeats(
    hash_N: np.ndarray, row_N: np.ndarray, split_R: np.ndarray, key_of: Callable[[int], str]
) -> dict[str, Any]:
    """Rows whose hash a row before has already.

    hash_N: uint64; row_N: int, rising, the row of each hash; split_R: by row, a number for its split; key_of: the key
    of a row. Returns rows (how many repeat one before), across_splits (how many have an equal in another split), and
    pairs (the keys of the first few, each after the key of the row that it repeats).
    """
    order_N = np.argsort(hash_N, kind="stable")
    sorted_N = hash_N[order_N]
    begins_N = np.ones(len(hash_N), dtype=bool)
    begins_N[1:] = sorted_N[1:] != sorted_N[:-1]
    starts_G = np.flatnonzero(begins_N)
    group_N = np.cumsum(begins_N) - 1
    split_N = split_R[row_N[order_N]]
    straddles_G = np.zeros(len(starts_G), dtype=bool)
    if len(starts_G):
        straddles_G = np.minimum.reduceat(split_N, starts_G) != np.maximum.reduceat(split_N, starts_G)
    repeats = row_N[order_N[~begins_N]]
    originals = row_N[order_N[starts_G[group_N[~begins_N]]]]
    first = np.argsort(repeats)[:_NUM_PAIRS]
    return {
        "rows": len(repeats),
        "across_splits": int(straddles_G[group_N].sum()),
        "pairs": [[key_of(int(originals[place])), key_of(int(repeats[place]))] for place in first],
    }
