"""Finding keys: a search from shard to key for a few, and an index in memory once many have been asked for."""

import ctypes
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from features.errors import StoreError, nearest
from features.recent import Recent
from features.shards import Shard

_FEW = 8  # keys that are found sooner one by one than by the index
_SEARCH_COST = 64  # rows that are indexed in the time that one key is searched for
_NUM_AROUND = 512  # keys on either side of an unknown one among which the nearest is looked for
_KEPT_TEXTS = 1024  # shards whose keys have been searched, copied: a few kilobytes each
_WINDOW = 8  # slots from its own in which a word is looked for
NOT_FOUND = -1
_EMPTY = np.uint64(0xFFFF_FFFF_FFFF_FFFF)  # as a row it is NOT_FOUND

ReadKeys = Callable[[int], pa.Array]
"""Gives the keys of a shard."""


class KeySearch:
    """Which row a key is in."""

    def __init__(self, shards: Sequence[Shard], starts: np.ndarray, folder: Path) -> None:
        """starts: int64 [shard + 1], the first row of each shard, and the number of all; folder: the store's."""
        self._folder = folder
        self._first_keys = [shard.first_key or "" for shard in shards]
        self._starts = starts.tolist()
        self._texts: Recent[int, tuple[memoryview, bytes]] = Recent(_KEPT_TEXTS)
        self._index: KeyIndex | None = None
        self._num_searched = 0

    def locate(self, keys: Sequence[str], read: ReadKeys) -> np.ndarray:
        """int64 [key], the row of each key. Raises StoreError with the first unknown keys and what is near them."""
        if isinstance(keys, str):
            raise StoreError(f"keys is the text {keys!r}; pass a list of keys")
        if len(keys) > _FEW and (index := self._ready_index(len(keys), read)):
            rows_N = index.find(keys)
            places: Iterable[int] = (rows_N == NOT_FOUND).nonzero()[0].tolist()
        else:
            rows_N, places = np.empty(len(keys), np.int64), range(len(keys))
        unknown = []
        for place in places:
            rows_N[place], is_there = self._search(keys[place], read)
            if not is_there:
                unknown.append(place)
        if unknown:
            listed = ", ".join(repr(keys[place]) for place in unknown[:3]) + (", ..." if len(unknown) > 3 else "")
            near = nearest(keys[unknown[0]], self._around(int(rows_N[unknown[0]]), read))
            raise StoreError(f"{self._folder} has no {len(unknown)} of {len(keys)} keys: {listed}{near}")
        return rows_N

    def _ready_index(self, num_keys: int, read: ReadKeys) -> "KeyIndex | None":
        """The index, which is made when searching for keys has taken as long as making it would."""
        if self._index is None:
            self._num_searched += num_keys
            if self._num_searched * _SEARCH_COST >= self._starts[-1] > 0:
                self._index = KeyIndex(map(read, range(len(self._first_keys))), self._starts[-1])
                _return_memory()
        return self._index

    def _search(self, key: str, read: ReadKeys) -> tuple[int, bool]:
        """The row of the key, or where it would be; and whether it is there."""
        if not isinstance(key, str):
            raise StoreError(f"the key {key!r} is no text but {type(key).__name__}; pass a list of texts")
        index = bisect_right(self._first_keys, key) - 1
        if index < 0:
            return 0, False
        offsets, text = self._texts.get(index) or self._read_texts(index, read)
        wanted = key.encode(errors="surrogatepass")  # UTF-8 sorts as the texts do
        places = range(len(offsets) - 1)
        place = bisect_left(places, wanted, key=lambda place: text[offsets[place] : offsets[place + 1]])
        is_there = place in places and text[offsets[place] : offsets[place + 1]] == wanted
        return self._starts[index] + place, is_there

    def _read_texts(self, index: int, read: ReadKeys) -> tuple[memoryview, bytes]:
        """The keys of a shard as offsets into one text: Arrow takes a microsecond to make a text of each."""
        keys = read(index)
        _, offsets, text = keys.buffers()
        spans = np.frombuffer(offsets, np.int32, len(keys) + 1, offset=4 * keys.offset)
        return self._texts.keep(index, (spans.data, bytes(text or b"")))

    def _around(self, row: int, read: ReadKeys) -> list[str]:
        """The keys before and behind a row, also of other shards."""
        first, last = max(row - _NUM_AROUND, 0), min(row + _NUM_AROUND, self._starts[-1])
        shards = range(bisect_right(self._starts, first) - 1, bisect_left(self._starts, last))
        keys = [str(key) for shard in shards for key in read(shard).to_pylist()]
        return keys[first - self._starts[shards.start] :][: last - first]


def _return_memory() -> None:
    """Give the system back what making an index took: glibc would keep it, several times the size of the index."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class KeyIndex:
    """The rows of keys by Python's hash of them, in 12 to 24 bytes a row.

    An open-addressing table of 64-bit words. The upper bits of a hash say at which slot its window begins; a word holds
    the bits of a hash below the highest ones, and in their stead at its lower end the row. Words are laid in the order
    of their hashes, each in the first free slot from the beginning of its window on.

    A key whose word lies in its window, as nearly all do, is found with its own row. Any other is not found, and to be
    searched for, unless its hash has all bits of another word there: that is less likely than 2**-41 among a million
    rows and 2**-38 among ten million, and Python keys its hash by the process, so that nobody can choose such keys.
    """

    def __init__(self, shards: Iterable[pa.Array], num_rows: int) -> None:
        """shards: the keys of each in turn, num_rows in all, at least one."""
        self._num_rows = num_rows
        self._row_bits = num_rows.bit_length()
        slot_bits = (num_rows * 3 // 2).bit_length()  # up to two thirds of the slots are taken
        self._slot_shift = 64 - slot_bits
        hashes = (hash(key) for keys in shards for key in keys.to_pylist())
        hashes_N = np.fromiter(hashes, np.int64, num_rows).view(np.uint64)
        order_N = np.argsort(hashes_N)
        hashes_N = hashes_N[order_N]
        place_N = np.arange(num_rows)
        slots_N = np.maximum.accumulate((hashes_N >> self._slot_shift).view(np.int64) - place_N) + place_N
        words = np.full(max(1 << slot_bits, int(slots_N[-1]) + 1) + _WINDOW, _EMPTY)
        words[slots_N] = hashes_N << self._row_bits | order_N.view(np.uint64)
        is_double = np.zeros(len(words), dtype=bool)  # what could be taken for a word in the same window
        for distance in range(1, _WINDOW):
            is_alike = words[distance:] ^ words[:-distance] < (1 << self._row_bits)
            is_double[distance:] |= is_alike
            is_double[:-distance] |= is_alike
        words[is_double] = _EMPTY
        # As one item of many bytes a window is copied in half the time that a row of an array of two dimensions takes.
        shape = (len(words) - _WINDOW + 1,)
        self._windows = np.ndarray(shape, f"V{_WINDOW * words.itemsize}", words.view("V1"), strides=(words.itemsize,))

    def find(self, keys: Sequence[str]) -> np.ndarray:
        """int64 [key], the row of each key, NOT_FOUND where it is to be searched for."""
        try:
            # Touches all texts in one tight loop, which takes half of the time that hashing waits for memory.
            "".join(keys)
        except TypeError:
            return np.full(len(keys), NOT_FOUND)
        hashes_N = np.fromiter(map(hash, keys), np.int64, len(keys)).view(np.uint64)
        windows_N = self._windows[(hashes_N >> self._slot_shift).view(np.int64)]
        windows_WN = windows_N.view(np.uint64).reshape(-1, _WINDOW).T
        # Where the word is the key's, the exclusive or leaves the row, and large numbers elsewhere.
        rows_N = np.bitwise_xor(windows_WN, hashes_N << self._row_bits, order="C").min(axis=0)
        rows_N[rows_N >= self._num_rows] = _EMPTY
        return rows_N.view(np.int64)
