"""Finding keys: a search from shard to key for a few, and by compiled hash tables once many have been asked for."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from features.compact import Texts
from features.errors import StoreError, nearest
from features.recent import Recent
from features.shards import Shard

if TYPE_CHECKING:
    from features.key_tables import KeyTables
    from features.mapping import MappedVectors

_FEW = 4096  # keys that are searched for before half a second is spent on loading what finds them faster
MOST_ROWS = (1 << 20) - 1  # of a shard, for tables of its keys
_NUM_AROUND = 512  # keys on either side of an unknown one among which the nearest is looked for

ReadKeys = Callable[[int], pa.Array]
"""Gives the keys of a shard."""


def texts(given: Iterable[str], what: str) -> Sequence[str]:
    """Keys or views, in whatever they come, by their place: [] of a pandas column goes by label, and what a column of
    Arrow holds is no text. Raises StoreError for a text alone, whose letters nobody means; what: its name there."""
    if isinstance(given, list):
        return given
    if isinstance(given, str):
        raise StoreError(f"{what} is the text {given!r}; pass a list of {what}")
    return given.to_pylist() if isinstance(given, pa.Array | pa.ChunkedArray) else list(given)


class KeySearch:
    """Which row a key is in."""

    def __init__(
        self, shards: Sequence[Shard], starts: np.ndarray, folder: Path, at_hand: Recent[int, pa.Array]
    ) -> None:
        """starts: int64 [shard + 1], the first row of each shard, and the number of all; folder: the store's; at_hand:
        keys of shards that were read already."""
        self._folder = folder
        self._at_hand = at_hand
        self._shards = shards
        self._starts = starts
        self._most_rows = int(np.diff(starts).max(initial=0))
        self._num_searched = 0

    def fetch(self, keys: Sequence[str], maps: MappedVectors) -> tuple[np.ndarray, np.ndarray] | None:
        """[key, dim], the vectors of keys in one go, and int64 [n], the places of those that locate() is to be asked
        for; None if it is to be asked for all."""
        if not self._is_fast or (text := _joined(keys)) is None:
            return None
        return self._tables.fetch(text, len(keys), maps)

    @property
    def _is_fast(self) -> bool:
        """Whether so many keys were asked for that compiled loops are used from now on."""
        return self._num_searched > _FEW and 0 < self._most_rows <= MOST_ROWS

    @cached_property
    def _first_keys(self) -> Texts:
        return Texts(shard.first_key or "" for shard in self._shards)

    @cached_property
    def _tables(self) -> KeyTables:
        from features.key_tables import KeyTables

        tables = KeyTables(self._first_keys, self._shards[-1].last_key or "", self._starts)
        # Or a call here and there would make one for a long time: it takes hundreds to meet each of a thousand shards.
        for shard, keys in self._at_hand.all():
            tables.open(shard, keys)
        return tables

    def locate(self, keys: Iterable[str], read: ReadKeys) -> np.ndarray:
        """int64 [(row, shard), key], where each key is. Raises StoreError with the first unknown keys and what is near
        them. read: gives the keys of a shard."""
        keys = texts(keys, "keys")
        self._num_searched += len(keys)
        if self._is_fast and (text := _joined(keys)) is not None:
            found_2K = self._tables.find(text, len(keys), read)
            places: Iterable[int] = (found_2K[0] < 0).nonzero()[0].tolist()
        else:
            found_2K, places = np.empty((2, len(keys)), np.int64), range(len(keys))
        unknown = []
        for place in places:
            *found_2K[:, place], is_there = self._search(keys[place], read)
            if not is_there:
                unknown.append(place)
        if unknown:
            listed = ", ".join(repr(keys[place]) for place in unknown[:3]) + (", ..." if len(unknown) > 3 else "")
            near = nearest(keys[unknown[0]], self._around(int(found_2K[0, unknown[0]]), read))
            raise StoreError(f"{self._folder} lacks {len(unknown)} of the keys: {listed}{near}")
        return found_2K

    def _search(self, key: str, read: ReadKeys) -> tuple[int, int, bool]:
        """The row and the shard of the key, or where it would be; and whether it is there."""
        if not isinstance(key, str):
            raise StoreError(f"the key {key!r} is no text but {type(key).__name__}; pass a list of texts")
        index = bisect_right(self._first_keys, key) - 1
        if index < 0:
            return 0, 0, False
        keys = read(index)
        _, offsets, text = keys.buffers()
        # Arrow takes a microsecond to make a text of each.
        ends, text = (
            np.frombuffer(offsets, np.int32, len(keys) + 1, offset=4 * keys.offset).data,
            memoryview(text or b"").cast("B"),
        )
        wanted = key.encode(errors="surrogatepass")  # UTF-8 sorts as the texts do
        places = range(len(keys))
        place = bisect_left(places, wanted, key=lambda place: bytes(text[ends[place] : ends[place + 1]]))
        is_there = place in places and text[ends[place] : ends[place + 1]] == wanted
        return int(self._starts[index]) + place, index, is_there

    def _around(self, row: int, read: ReadKeys) -> list[str]:
        """The keys before and behind a row, also of other shards."""
        first, last = max(row - _NUM_AROUND, 0), min(row + _NUM_AROUND, int(self._starts[-1]))
        shards = range(bisect_right(self._starts, first) - 1, bisect_left(self._starts, last))
        keys = [str(key) for shard in shards for key in read(shard).to_pylist()]
        return keys[first - self._starts[shards.start] :][: last - first]


def _joined(keys: Sequence[str]) -> str | None:
    """The keys, one a line; None if one of them is no text."""
    try:
        return "\n".join(keys)
    except TypeError:
        return None
