"""A view's vectors over the memory maps of all its shards, gathered by one numpy call."""

from collections.abc import Callable
from threading import Lock

import numpy as np
from numpy.lib.stride_tricks import as_strided

_CLOSED = -(1 << 62)
_LARGEST = (1 << 63) - 1


class MappedVectors:
    """The vectors of a pooled view at any rows. A shard is opened when a row of it is first asked for.

    All maps lie in one address space. An array over it, whose items are as large as a vector and begin at every
    multiple of a number's size, has each stored vector as an item: so numpy's own indexing gathers over all shards at
    once, and touches nothing but the items it is asked for. Arrow aligns what it maps to 8 bytes.
    """

    def __init__(self, starts: np.ndarray, dim: int, dtype: str) -> None:
        """starts: int64 [shard + 1], the first row of each shard."""
        self._starts = starts
        self._dim = dim
        self._dtype = np.dtype(dtype)
        # Where row 0 would be if the shard before went on to it, counted in numbers from address 0.
        self._origins_S = np.full(len(starts) - 1, _CLOSED)
        # The array, and where it begins: at the lowest map. Both are replaced together, for the sake of other threads.
        self._items = (_LARGEST, np.empty(0, f"V{dim * self._dtype.itemsize}"))
        self._opening = Lock()

    def gather(self, rows_N: np.ndarray, shards_N: np.ndarray, read: Callable[[int], np.ndarray]) -> np.ndarray:
        """[n, dim] at rows of these shards; read: gives [row, dim] over the map of a shard, which must stay."""
        items, places_N = self._find(rows_N, shards_N, read)
        return items[places_N].view(self._dtype).reshape(-1, self._dim)

    def room_for(self, num_rows: int) -> tuple[np.ndarray, np.ndarray, int]:
        """For a loop that copies: [num_rows, dim] to be written; int64 [shard], where row 0 of each shard would be,
        counted in numbers from address 0; and what stands there for one that is closed."""
        return np.empty((num_rows, self._dim), self._dtype), self._origins_S, _CLOSED

    def places(
        self, rows_N: np.ndarray, shards_N: np.ndarray, read: Callable[[int], np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """All maps as one array of numbers, and int64 [n], where the vector of each row begins there; else as above.

        What lies between the vectors must not be touched.
        """
        items, places_N = self._find(rows_N, shards_N, read)
        size = self._dtype.itemsize
        numbers = as_strided(items[:1].view(self._dtype), (_LARGEST // size,), (size,), writeable=False)
        return numbers, places_N

    def _find(
        self, rows_N: np.ndarray, shards_N: np.ndarray, read: Callable[[int], np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The array of all vectors, and int64 [n], the places of rows in it."""
        places_N = self._origins_S[shards_N]
        if np.count_nonzero(is_closed_N := places_N == _CLOSED):
            for index in np.unique(shards_N[is_closed_N]).tolist():
                self._open(index, read(index))
            places_N = self._origins_S[shards_N]
        lowest, items = self._items
        places_N += rows_N * self._dim
        places_N -= lowest
        return items, places_N

    def _open(self, index: int, vectors_ND: np.ndarray) -> None:
        size = self._dtype.itemsize
        address = vectors_ND.__array_interface__["data"][0] // size
        with self._opening:
            lowest, items = self._items
            if address < lowest:
                first = vectors_ND.view(items.dtype)[:, 0]
                # As many items as numpy takes: their sizes must add up to less than 2**63, although they overlap. With
                # addresses of 47 bits that is all of memory up to vectors of 65536 numbers; with larger ones it is
                # terabytes still, and the kernel lays maps side by side.
                self._items = (address, as_strided(first, (_LARGEST // items.itemsize,), (size,), writeable=False))
            self._origins_S[index] = address - self._starts[index] * self._dim  # last, since it says that all is there
