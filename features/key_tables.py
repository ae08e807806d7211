"""Finding many keys at once: a hash table over the keys of each shard."""

from collections.abc import Callable, Iterable
from secrets import randbits
from threading import Lock

import numpy as np
import pyarrow as pa

from features.key_kernels import CLOSED, FEW_WORDS, NUM_SLOTS, fetch_keys, fill_table, find_rows, find_shards
from features.mapping import MappedVectors, addresses_of_keys

ReadKeys = Callable[[int], pa.Array]
"""Gives the keys of a shard."""

_NONE = np.empty(0, np.int64)
_NUM_BUCKETS = 4096
_WORD_BYTES = 8
_MOST_ATTEMPTS = 3  # to find keys: a table may be forgotten for the sake of the next one
_FEW_ROWS = (1 << 12) - 1  # of a shard, for slots of two bytes, whose tags have four bits then; others have four bytes
_MOST_BYTES = 16 << 20  # of slots that are written


class KeyTables:
    """The rows of keys. The table of a shard is made when a key in it is first asked for, in two and a half bytes a
    row; where all take 16 MiB, they are forgotten and made anew.

    Which shard may hold a key is told by the eight bytes after those that all keys begin with; where these do not
    decide, by all of them. Where in it the key can be is told by a hash, and whether it is there by the key itself, in
    the map of a file: so a table holds no more than rows and a few bits that save most looks at other keys.
    """

    def __init__(self, first_keys: Iterable[str], last_key: str, starts: np.ndarray) -> None:
        """first_keys: of each shard, at least one; starts: int64 [shard + 1], the first row of each shard."""
        firsts = [_encode(key) for key in first_keys]
        skipped = _num_common(firsts[0], _encode(last_key))
        lengths_S = np.fromiter(map(len, firsts), np.int64, len(firsts))
        self._text = np.frombuffer(b"".join(firsts) or b"\0", np.uint8)
        addresses_S = self._text.ctypes.data + np.cumsum(lengths_S) - lengths_S
        heads = b"".join(first[skipped:][:_WORD_BYTES].ljust(_WORD_BYTES, b"\0") for first in firsts)
        words_S = np.frombuffer(heads, ">u8").astype(np.uint64)
        padded_S = np.append(words_S, np.full(FEW_WORDS, (1 << 64) - 1, np.uint64))  # a loop looks so far behind each
        base, top = int(words_S[0]), int(words_S[-1])
        shift = max(0, (top - base).bit_length() - _NUM_BUCKETS.bit_length() + 1)
        edges = np.array([min(base + (bucket << shift), (1 << 64) - 1) for bucket in range(_NUM_BUCKETS)], np.uint64)
        buckets_B = np.append(np.searchsorted(words_S, edges), len(firsts))
        places_S2 = np.stack([addresses_S, lengths_S], axis=1)
        self._held = padded_S, buckets_B, places_S2
        words, buckets, places = (array.ctypes.data for array in self._held)
        self._firsts = (skipped, np.uint64(base), shift, words, _NUM_BUCKETS - 1, buckets, places)
        self._starts = starts
        self._row_bits = int(np.diff(starts).max()).bit_length()
        self._slot_type = np.dtype(np.uint16 if self._row_bits <= _FEW_ROWS.bit_length() else np.uint32)
        self._tables_SC = np.zeros((len(firsts), 5), np.int64)
        self._seed = np.uint64(randbits(64))
        self._forget()
        self._opening = Lock()

    def find(self, text: str, num_keys: int, read: ReadKeys) -> np.ndarray:
        """int64 [(row, shard), key], a row below 0 for a key that is not there.

        text: a key in each line, without a line break at its end; with other lines than keys none is found, for one
        holds a line break then, as no key of a store does. read: gives the keys of a shard; all that it gives in a call
        is held together.
        """
        found_2K = np.full((2, num_keys), -1, np.int64)
        lines = np.frombuffer(_encode(text) + b"\n", np.uint8)
        starts_K = np.empty(num_keys + 1, np.int64)
        if not find_shards(lines, self._firsts, starts_K, found_2K[1]):
            return found_2K
        keys = {shard: read(shard) for shard in np.unique(found_2K[1]).tolist()}
        keys_SC = np.zeros((len(self._tables_SC), 2), np.int64)
        keys_SC[list(keys)] = [addresses_of_keys(keys[shard]) for shard in keys]
        for _ in range(_MOST_ATTEMPTS):
            for shard in keys:
                self.open(shard, keys[shard])
            find_rows(starts_K, self._seed, self._tables_SC, keys_SC, *found_2K)
            if not np.count_nonzero(found_2K[0] == CLOSED):
                break
        return found_2K

    def fetch(self, text: str, num_keys: int, maps: MappedVectors) -> tuple[np.ndarray, np.ndarray]:
        """[key, dim], the vectors of keys, and int64 [n], the places of those that are still to be filled in: of keys
        that are not there, or whose shard is not open here or in the maps."""
        vectors_KD, origins_S, keys_SC = maps.room_for(num_keys)
        rows_K = np.empty(num_keys, np.int64)
        lines = np.frombuffer(_encode(text) + b"\n", np.uint8)
        bytes_KB, size = vectors_KD.view(np.uint8), vectors_KD.itemsize
        missing = fetch_keys(
            lines, self._seed, self._firsts, self._tables_SC, keys_SC, origins_S, rows_K, size, bytes_KB
        )
        return vectors_KD, np.flatnonzero(rows_K < 0) if missing else _NONE

    def open(self, shard: int, keys: pa.Array) -> None:
        """Make the table of a shard; keys: its own."""
        first, stop = (_first_slot(int(self._starts[bound]), bound) for bound in (shard, shard + 1))
        with self._opening:
            if self._tables_SC[shard, NUM_SLOTS]:
                return
            if (self._num_written + stop - first) * self._slot_type.itemsize > _MOST_BYTES:
                self._forget()
            self._num_written += stop - first
            slots, bits = self._slots[first:stop], self._row_bits
            fill_table(*addresses_of_keys(keys), len(keys), self._seed, bits, slots)
            self._tables_SC[shard] = self._starts[shard], slots.ctypes.data, len(slots), slots.itemsize, bits

    def _forget(self) -> None:
        """Close all tables. No loop looks at them meanwhile, for a loop lets no other thread run."""
        self._tables_SC[:] = 0
        # In one piece, for which numpy asks for pages that are large; one that is not written takes no memory.
        self._slots = np.zeros(_first_slot(int(self._starts[-1]), len(self._tables_SC)), self._slot_type)
        self._num_written = 0


def _first_slot(row: int, shard: int) -> int:
    """Where the slots of a shard begin that begins with the row: a fifth of the slots stays free, and one at least."""
    return row * 5 // 4 + 2 * shard


def _encode(key: str) -> bytes:
    return key.encode(errors="surrogatepass")  # UTF-8 sorts as the texts do


def _num_common(one: bytes, other: bytes) -> int:
    """How many bytes two texts begin with alike."""
    pairs = zip(one, other, strict=False)
    return next((place for place, (left, right) in enumerate(pairs) if left != right), min(len(one), len(other)))
