"""Which shard a row is in."""

import numpy as np

from features.paging import paged

_PART_BLOCKS = 1 << 16  # are looked at once
_BLOCK_BITS = 4  # of a row's number: with shards of hundreds of rows, few blocks of 16 are of more than one


class ShardOfRows:
    """The shard of any rows: as fast as a search among all shards for a few, and many times faster for thousands."""

    def __init__(self, starts: np.ndarray) -> None:
        """starts: int64 [shard + 1], the first row of each shard, rising, and the number of all."""
        self._ends_S = starts[1:].copy()
        _, num_ends_B = np.unique((self._ends_S[:-1] - 1) >> _BLOCK_BITS, return_counts=True)
        self._most_ends = int(num_ends_B.max(initial=0))  # of shards within a block
        rows = range(0, int(starts[-1]), 1 << _BLOCK_BITS)
        parts = (rows[start : start + _PART_BLOCKS] for start in range(0, len(rows), _PART_BLOCKS))
        firsts = (np.searchsorted(self._ends_S, part, side="right") for part in parts)
        self._firsts_B = paged(firsts, np.min_scalar_type(len(starts)))

    def __getitem__(self, rows_N: np.ndarray) -> np.ndarray:
        """int [n], the shard of each of some rows, which must be in the store."""
        shards_N = self._firsts_B[rows_N >> _BLOCK_BITS]
        for _ in range(self._most_ends):
            shards_N += rows_N >= self._ends_S[shards_N]
        return shards_N
