"""Loops that find keys in memory maps and copy vectors out of them, compiled for the processor they run on.

They take addresses, since shards lie in maps of their own. The bytes of memory are fetched ahead, for many rows at
once: what such a loop takes is mostly the time that memory takes to answer.
"""

from typing import Any

import numpy as np
from numba import njit, types

from features.compiling import compiled
from features.keys import MOST_ROWS
from features.memory_kernels import (
    comes_before,
    copy_bytes,
    fetch_ahead,
    hash_text,
    load_int32,
    load_word,
    word_at,
)

NOT_FOUND, CLOSED = -1, -2
# Columns of the array that describes shards: the first row, where the slots are, and how many.
START, TABLE, NUM_SLOTS = range(3)

_NEWLINE = 10
_ROW_BITS = MOST_ROWS.bit_length()  # of a slot: the row, counted from 1; above it are bits of the key's hash, its tag
_LINE_BYTES = 64
FEW_WORDS = 16  # are compared at once
# Of the vectors that are copied next, the first lines: the processor itself asks for those that follow. Measured: from
# 2 rows and all lines to 16 rows and 2 lines do nearly alike.
_ROWS_AHEAD, _BYTES_AHEAD = 8, 512

_BYTES = types.Array(types.uint8, 1, "C", readonly=True)
_WORDS = types.Array(types.uint64, 1, "C")
_PLACES = types.Array(types.int64, 1, "C")
_SHARDS = types.Array(types.int64, 2, "C")


@njit()
def _slot(mixed: Any, num_slots: int) -> Any:
    """The upper bits of a hash as a number below num_slots."""
    return np.int64((mixed >> np.uint64(32)) * np.uint64(num_slots) >> np.uint64(32))


@njit()
def _tag(laid: Any) -> Any:
    return laid >> np.uint64(_ROW_BITS)


@compiled((types.int64, types.int64, types.int64, types.uint64, _WORDS))
def fill_table(offsets: int, text: int, num_rows: int, seed: int, slots: np.ndarray) -> bool:
    """Lay the rows of a shard, counted from 1, each into the first free slot from that of its key's hash on; False as
    soon as two keys that are near each other have the same tag, which a table could not tell apart.

    offsets: address of int32 [row + 1], the ends of the keys in the text at the address text; slots: uint64, zeros,
    more than there are rows.
    """
    num_slots = len(slots)
    for row in range(num_rows):
        start, end = load_int32(offsets + 4 * row), load_int32(offsets + 4 * row + 4)
        mixed = hash_text(text + start, end - start, seed)
        place, laid = _slot(mixed, num_slots), mixed << np.uint64(_ROW_BITS) | np.uint64(row + 1)
        while slots[place]:
            if _tag(slots[place]) == _tag(laid):
                return False
            place = place + 1 if place + 1 < num_slots else 0
        slots[place] = laid
    return True


@njit()
def _split(text: np.ndarray, num_keys: int, starts_K: np.ndarray) -> bool:
    """Write where the keys begin in memory, one in each line; whether there are as many lines as there should be."""
    address, found = text.ctypes.data, 0
    starts_K[0] = address
    for place in range(len(text)):
        if text[place] == _NEWLINE:
            if found == num_keys:
                return False
            found += 1
            starts_K[found] = address + place + 1
    return found == num_keys


@njit()
def _number(address: int, place: Any) -> Any:
    """The int64 at a place of an array: a loop that is handed the array itself counts who holds it, for each key."""
    return np.int64(load_word(address + 8 * place))


@njit()
def _shard_of(address: int, num_bytes: int, firsts: tuple[Any, ...]) -> int:
    """The last shard whose first key is not behind the key, or the first one."""
    skipped, base, shift, words, last_bucket, buckets, places = firsts
    word = word_at(address + skipped, num_bytes - skipped)
    bucket: Any = 0
    if word > base:
        bucket = np.int64(min((word - base) >> np.uint64(shift), np.uint64(last_bucket)))
    lowest, end = max(_number(buckets, bucket) - 1, 0), _number(buckets, bucket + 1)
    shard, num_left = lowest, end - lowest
    while num_left > FEW_WORDS + 1:
        half = num_left >> 1
        # No branch, for the processor could not guess it.
        shard += half & -np.int64(load_word(words + 8 * (shard + half)) <= word)
        num_left -= half
    num_behind = 0
    for place in range(1, FEW_WORDS + 1):  # always as many, at once; those that are too many are larger
        num_behind += load_word(words + 8 * (shard + place)) <= word
    shard = min(shard + num_behind, end - 1)
    if load_word(words + 8 * shard) == word:  # then the words of shards before may be the same
        shard = lowest
        while end - shard > 1:
            middle = (shard + end) >> 1
            if comes_before(address, num_bytes, _number(places, 2 * middle), _number(places, 2 * middle + 1)):
                end = middle
            else:
                shard = middle
    return shard


@njit()
def _row_of(mixed: Any, start: int, table: int, num_slots: int) -> Any:
    """The row of the key with this hash in a shard, or NOT_FOUND."""
    slot = _slot(mixed, num_slots)
    while True:
        laid = load_word(table + 8 * slot)
        if laid == 0:
            return NOT_FOUND
        if _tag(laid) == _tag(mixed << np.uint64(_ROW_BITS)):
            return start + np.int64(laid & np.uint64(MOST_ROWS)) - 1
        slot = slot + 1 if slot + 1 < num_slots else 0


@njit()
def _look_up(text: np.ndarray, seed: Any, firsts: tuple[Any, ...], shards_SC: np.ndarray, found_2K: np.ndarray) -> Any:
    """Find the row and the shard of each key, or a code below 0; how many codes there are."""
    rows_K, shards_K = found_2K[0], found_2K[1]
    num_keys, num_missing = len(rows_K), 0
    starts_K, hashes_K = np.empty(num_keys + 1, np.int64), np.empty(num_keys, np.uint64)
    if not _split(text, num_keys, starts_K):
        rows_K[:], shards_K[:] = NOT_FOUND, 0
        return num_keys
    for key in range(num_keys):
        num_bytes = starts_K[key + 1] - 1 - starts_K[key]
        shard, mixed = _shard_of(starts_K[key], num_bytes, firsts), hash_text(starts_K[key], num_bytes, seed)
        shards_K[key], hashes_K[key] = shard, mixed
        # What the next pass reads is asked for, of all keys.
        fetch_ahead(shards_SC[shard, TABLE] + 8 * _slot(mixed, shards_SC[shard, NUM_SLOTS]))
    for key in range(num_keys):
        shard = shards_K[key]
        num_slots = shards_SC[shard, NUM_SLOTS]
        start, table = shards_SC[shard, START], shards_SC[shard, TABLE]
        rows_K[key] = _row_of(hashes_K[key], start, table, num_slots) if num_slots else CLOSED
        num_missing += rows_K[key] < 0
    return num_missing


_numba: Any = types  # which leaves the next call untyped
_FIRSTS = _numba.Tuple([types.int64, types.uint64, *[types.int64] * 5])


@compiled((_BYTES, types.uint64, _FIRSTS, _SHARDS, _SHARDS))
def find_keys(
    text: np.ndarray, seed: np.uint64, firsts: tuple[Any, ...], shards_SC: np.ndarray, found_2K: np.ndarray
) -> int:
    """Find the row and the shard of each key; returns how many are NOT_FOUND or CLOSED instead of a row.

    text: a key in each line; one that has other lines than keys finds none. seed: of the tables. firsts: see KeyTables.
    shards_SC: int64 [shard, column], all zeros of one that is closed. found_2K: int64 [(row, shard), key], written.
    """
    return int(_look_up(text, seed, firsts, shards_SC, found_2K))


@compiled(
    (
        _BYTES,
        types.uint64,
        _FIRSTS,
        _SHARDS,
        _SHARDS,
        _PLACES,
        types.int64,
        types.int64,
        types.Array(types.uint8, 2, "C"),
    )
)
def fetch_keys(
    text: np.ndarray,
    seed: np.uint64,
    firsts: tuple[Any, ...],
    shards_SC: np.ndarray,
    found_2K: np.ndarray,
    origins_S: np.ndarray,
    closed: int,
    item_bytes: int,
    vectors_KB: np.ndarray,
) -> int:
    """Find keys as find_keys() does and copy their vectors; returns how many were not both found and copied, whose
    row is NOT_FOUND or CLOSED.

    origins_S: int64 [shard], where row 0 would be, counted in numbers of item_bytes from address 0, or closed;
    vectors_KB: uint8 [key, byte], written.
    """
    num_keys, num_bytes = vectors_KB.shape
    num_missing = _look_up(text, seed, firsts, shards_SC, found_2K)
    sources_K = np.zeros(num_keys, np.int64)
    for key in range(num_keys):
        origin = origins_S[found_2K[1, key]]
        if found_2K[0, key] >= 0:
            if origin == closed:
                found_2K[0, key] = CLOSED
                num_missing += 1
            else:
                sources_K[key] = origin * item_bytes + found_2K[0, key] * num_bytes
    target = vectors_KB.ctypes.data
    for key in range(num_keys):
        later = sources_K[min(key + _ROWS_AHEAD, num_keys - 1)]
        for byte in range(0, min(num_bytes, _BYTES_AHEAD), _LINE_BYTES):
            fetch_ahead(later + byte)
        if sources_K[key]:
            copy_bytes(target + key * num_bytes, sources_K[key], num_bytes)
    return num_missing
