"""Finding many keys at once: a hash table over the keys of each shard."""

from collections.abc import Callable, Iterable
from secrets import randbits
from threading import Lock

import numpy as np
import pyarrow as pa

from features.key_kernels import CLOSED, FEW_WORDS, NUM_SLOTS, fetch_keys, fill_table, find_keys
from features.mapping import MappedVectors
from features.paging import paged, paged_zeros

ReadKeys = Callable[[int], pa.Array]
"""Gives the keys of a shard."""

_NONE = np.empty(0, np.int64)
_NUM_BUCKETS = 4096
_WORD_BYTES = 8


class KeyTables:
    """The rows of keys. The table of a shard is made when a key in it is first asked for, in 10 bytes a row that need
    no memory.

    Which shard may hold a key is told by the eight bytes after those that all keys begin with; where these do not
    decide, by all of them. Within it a key is told by 44 bits of a hash besides its slot, for a look at the key itself
    would take as long as all else: a key of the store is found as itself, always, and one that is not there is taken
    for another once in 2**44 times, other keys in each process, for each has a seed of its own.
    """

    def __init__(self, first_keys: Iterable[str], last_key: str, starts: np.ndarray) -> None:
        """first_keys: of each shard, at least one; starts: int64 [shard + 1], the first row of each shard."""
        firsts = [_encode(key) for key in first_keys]
        skipped = _num_common(firsts[0], _encode(last_key))
        lengths_S = np.fromiter(map(len, firsts), np.int64, len(firsts))
        self._text = paged([np.frombuffer(b"".join(firsts) or b"\0", np.uint8)], np.uint8)
        addresses_S = self._text.ctypes.data + np.cumsum(lengths_S) - lengths_S
        heads = b"".join(first[skipped:][:_WORD_BYTES].ljust(_WORD_BYTES, b"\0") for first in firsts)
        words_S = np.frombuffer(heads, ">u8").astype(np.uint64)
        beyond = np.full(FEW_WORDS, (1 << 64) - 1, np.uint64)  # a loop looks so far behind each
        base, top = int(words_S[0]), int(words_S[-1])
        shift = max(0, (top - base).bit_length() - _NUM_BUCKETS.bit_length() + 1)
        edges = np.array([min(base + (bucket << shift), (1 << 64) - 1) for bucket in range(_NUM_BUCKETS)], np.uint64)
        buckets_B = np.append(np.searchsorted(words_S, edges), len(firsts))
        texts = np.stack([addresses_S, lengths_S], axis=1).reshape(-1)
        self._held = paged([words_S, beyond], np.uint64), buckets_B, paged([texts], np.int64)
        words, buckets, places = (array.ctypes.data for array in self._held)
        self._firsts = (skipped, np.uint64(base), shift, words, _NUM_BUCKETS - 1, buckets, places)
        self._starts = starts
        self._shards_SC = np.zeros((len(firsts), 3), np.int64)
        self._seed = np.uint64(randbits(64))
        self._slots = paged_zeros(_first_slot(int(starts[-1]), len(firsts)), np.uint64)
        self._opening = Lock()

    def find(self, text: str, num_keys: int, read: ReadKeys) -> np.ndarray:
        """int64 [(row, shard), key], a row below 0 for a key that is not there.

        text: a key in each line, without a line break at its end; with other lines than keys none is found, for one
        holds a line break then, as no key of a store does.
        """
        found_2K = np.empty((2, num_keys), np.int64)
        lines = np.frombuffer(_encode(text) + b"\n", np.uint8)
        if find_keys(lines, self._seed, self._firsts, self._shards_SC, found_2K) and self._open_closed(found_2K, read):
            find_keys(lines, self._seed, self._firsts, self._shards_SC, found_2K)
        return found_2K

    def fetch(self, text: str, num_keys: int, maps: MappedVectors) -> tuple[np.ndarray, np.ndarray]:
        """[key, dim], the vectors of keys, and int64 [n], the places of those that are still to be filled in: of keys
        that are not there, or whose shard is not open here or in the maps."""
        vectors_KD, origins_S, closed = maps.room_for(num_keys)
        found_2K = np.empty((2, num_keys), np.int64)
        lines = np.frombuffer(_encode(text) + b"\n", np.uint8)
        bytes_KB, size = vectors_KD.view(np.uint8), vectors_KD.itemsize
        missing = fetch_keys(
            lines, self._seed, self._firsts, self._shards_SC, found_2K, origins_S, closed, size, bytes_KB
        )
        return vectors_KD, np.flatnonzero(found_2K[0] < 0) if missing else _NONE

    def _open_closed(self, found_2K: np.ndarray, read: ReadKeys) -> bool:
        closed = np.unique(found_2K[1][found_2K[0] == CLOSED]).tolist()
        for shard in closed:
            self.open(shard, read(shard))
        return bool(closed)

    def open(self, shard: int, keys: pa.Array) -> None:
        """Make the table of a shard; keys: its own. Where two of them cannot be told apart it stays closed."""
        _, offsets, text = keys.buffers()
        first, stop = (_first_slot(int(self._starts[bound]), bound) for bound in (shard, shard + 1))
        with self._opening:
            if self._shards_SC[shard, NUM_SLOTS]:
                return
            # Filled elsewhere, and not twice: a process that was forked has the same slots, and writes the same there.
            filled = np.zeros(stop - first, np.uint64)
            ends, letters = offsets.address + 4 * keys.offset, text.address if text else 0
            if fill_table(ends, letters, len(keys), self._seed, filled):
                slots = self._slots[first:stop]
                slots[:] = filled
                self._shards_SC[shard] = self._starts[shard], slots.ctypes.data, len(slots)


def _first_slot(row: int, shard: int) -> int:
    """Where the slots of a shard begin that begins with the row: a fifth of the slots stays free, and one at least."""
    return row * 5 // 4 + 2 * shard


def _encode(key: str) -> bytes:
    return key.encode(errors="surrogatepass")  # UTF-8 sorts as the texts do


def _num_common(one: bytes, other: bytes) -> int:
    """How many bytes two texts begin with alike."""
    pairs = zip(one, other, strict=False)
    return next((place for place, (left, right) in enumerate(pairs) if left != right), min(len(one), len(other)))
