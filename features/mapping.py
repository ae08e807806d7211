"""A view's vectors over the memory maps of its shards, gathered by one numpy call."""

from collections.abc import Callable, Mapping
from threading import Lock

import numpy as np
import pyarrow as pa
from numpy.lib.stride_tricks import as_strided

_CLOSED = -(1 << 62)
_LARGEST = (1 << 63) - 1

ReadVectors = Callable[[int], np.ndarray]
"""Gives [row, dim] over the map of a shard."""


def root_of(part: pa.Buffer) -> pa.Buffer:
    """The whole that a part of memory is cut from, as the map of a file."""
    while part.parent is not None:
        part = part.parent
    return part


class MappedVectors:
    """The vectors of a pooled view at any rows. A shard is opened when a row of it is first asked for, and where there
    are as many maps as there may be, the older half is closed; what is in use then stays until it is not.

    All maps lie in one address space. An array over it, whose items are as large as a vector and begin at every
    multiple of a number's size, has each stored vector as an item: so numpy's own indexing gathers over all shards at
    once, and touches nothing but the items it is asked for. Arrow aligns what it maps to 8 bytes.
    """

    def __init__(self, starts: np.ndarray, dim: int, dtype: str, *, most_maps: int) -> None:
        """starts: int64 [shard + 1], the first row of each shard; most_maps: that are open, at least 2."""
        self._starts = starts
        self._dim = dim
        self._dtype = np.dtype(dtype)
        self._most_maps = most_maps
        # Where row 0 would be if the shard before went on to it, counted in numbers from address 0.
        self._origins_S = np.full(len(starts) - 1, _CLOSED)
        # To close maps is to put another dictionary here, after their origins are gone. Who has found it the same
        # before and after a look at the origins holds with it all maps that they lead to.
        self._maps: dict[int, np.ndarray] = {}
        # The array, and where it begins: at the lowest map. Both are replaced together, for the sake of other threads.
        self._items = (_LARGEST, np.empty(0, f"V{dim * self._dtype.itemsize}"))
        self._opening = Lock()

    def vectors(self, shard: int, read: ReadVectors) -> np.ndarray:
        """[row, dim], a shard over its map."""
        found = self._maps.get(shard)
        return self.keep(shard, read(shard)) if found is None else found

    def gather(self, rows_N: np.ndarray, shards_N: np.ndarray, read: ReadVectors) -> np.ndarray:
        """[n, dim] at rows of these shards."""
        if len(rows_N) > (most := self.rows_at_once):
            parts = [slice(start, start + most) for start in range(0, len(rows_N), most)]
            return np.concatenate([self.gather(rows_N[part], shards_N[part], read) for part in parts])
        items, places_N, _maps = self._find(rows_N, shards_N, read)
        return items[places_N].view(self._dtype).reshape(-1, self._dim)

    @property
    def rows_at_once(self) -> int:
        """Of how many rows, wherever they are, all shards can be open at once."""
        num_shards = len(self._origins_S)
        # To open the last of them closes the older half of all, which are others.
        return int(self._starts[-1]) if num_shards <= self._most_maps else self._most_maps // 2

    def room_for(self, num_rows: int) -> tuple[np.ndarray, np.ndarray, int]:
        """For a loop that copies and lets no other thread run: [num_rows, dim] to be written; int64 [shard], where row
        0 of each shard would be, counted in numbers from address 0; and what stands there for one that is closed."""
        return np.empty((num_rows, self._dim), self._dtype), self._origins_S, _CLOSED

    def places(
        self, rows_N: np.ndarray, shards_N: np.ndarray, read: ReadVectors
    ) -> tuple[np.ndarray, np.ndarray, Mapping[int, np.ndarray]]:
        """All maps as one array of numbers; int64 [n], where the vector of each row begins there; and what is to be
        held as long as they are read. What lies between the vectors must not be touched. Raises ValueError for more
        rows than rows_at_once.
        """
        if len(rows_N) > self.rows_at_once:
            raise ValueError(f"{len(rows_N)} rows; the shards of at most {self.rows_at_once} are open at once")
        items, places_N, maps = self._find(rows_N, shards_N, read)
        size = self._dtype.itemsize
        numbers = as_strided(items[:1].view(self._dtype), (_LARGEST // size,), (size,), writeable=False)
        return numbers, places_N, maps

    def _find(
        self, rows_N: np.ndarray, shards_N: np.ndarray, read: ReadVectors
    ) -> tuple[np.ndarray, np.ndarray, Mapping[int, np.ndarray]]:
        """The array of all vectors; int64 [n], the places of rows in it; and what holds the maps."""
        while True:
            maps = self._maps
            places_N = self._origins_S[shards_N]
            if np.count_nonzero(is_closed_N := places_N == _CLOSED):
                for shard in np.unique(shards_N[is_closed_N]).tolist():
                    self.vectors(shard, read)
            elif maps is self._maps:
                break
        lowest, items = self._items
        places_N += rows_N * self._dim
        places_N -= lowest
        return items, places_N, maps

    def keep(self, shard: int, vectors_ND: np.ndarray) -> np.ndarray:
        """Keep [row, dim] over the map of a shard, and give what is kept: what came first."""
        size = self._dtype.itemsize
        address = vectors_ND.__array_interface__["data"][0] // size
        with self._opening:
            if shard in self._maps:
                return self._maps[shard]
            if len(self._maps) >= self._most_maps:
                self._close_older_half()
            self._maps[shard] = vectors_ND
            lowest, items = self._items
            if address < lowest:
                first = vectors_ND.view(items.dtype)[:, 0]
                # As many items as numpy takes: their sizes must add up to less than 2**63, although they overlap. With
                # addresses of 47 bits that is all of memory up to vectors of 65536 numbers; with larger ones it is
                # terabytes still, and the kernel lays maps side by side.
                self._items = (address, as_strided(first, (_LARGEST // items.itemsize,), (size,), writeable=False))
            self._origins_S[shard] = address - self._starts[shard] * self._dim  # last, since it says that all is there
        return vectors_ND

    def _close_older_half(self) -> None:
        maps = list(self._maps.items())
        older, newer = maps[: len(maps) // 2], maps[len(maps) // 2 :]
        self._origins_S[[shard for shard, _ in older]] = _CLOSED
        self._maps = dict(newer)
