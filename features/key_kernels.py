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
    are_equal,
    comes_before,
    copy_bytes,
    fetch_ahead,
    hash_text,
    load_int32,
    load_uint32,
    load_word,
    word_at,
)

NOT_FOUND, CLOSED = -1, -2
# Columns of the array that describes shards.
START, OFFSETS, TEXT, TABLE, NUM_SLOTS = range(5)

_NEWLINE = 10
_TAG_BITS = 0xFFFF_FFFF & ~MOST_ROWS  # of a slot; below it has the row, counted from 1
_LINE_BYTES = 64
_FEW_WORDS = 16  # are compared at once
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
def _tag(mixed: Any) -> Any:
    """Bits of a hash that a slot keeps above the row: few keys have those of another near them."""
    return np.int64(mixed & np.uint64(_TAG_BITS))


@compiled((types.int64, types.int64, types.int64, types.Array(types.uint32, 1, "C")))
def fill_table(offsets: int, text: int, num_rows: int, slots: np.ndarray) -> None:
    """Lay the rows of a shard, counted from 1, each into the first free slot from that of its key's hash on.

    offsets: address of int32 [row + 1], the ends of the keys in the text at the address text; slots: uint32, zeros,
    more than there are rows.
    """
    num_slots = len(slots)
    for row in range(num_rows):
        start, end = load_int32(offsets + 4 * row), load_int32(offsets + 4 * row + 4)
        mixed = hash_text(text + start, end - start)
        place = _slot(mixed, num_slots)
        while slots[place]:
            place = place + 1 if place + 1 < num_slots else 0
        slots[place] = _tag(mixed) | (row + 1)


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
def _shard_of(address: int, num_bytes: int, firsts: tuple[Any, ...]) -> int:
    """The last shard whose first key is not behind the key, or the first one."""
    skipped, base, shift, words_S, buckets_B, firsts_S2 = firsts
    word = word_at(address + skipped, num_bytes - skipped)
    bucket: Any = 0
    if word > base:
        bucket = np.int64(min((word - base) >> np.uint64(shift), np.uint64(len(buckets_B) - 2)))
    lowest, end = max(buckets_B[bucket] - 1, 0), buckets_B[bucket + 1]
    shard, num_left, words = lowest, end - lowest, words_S.ctypes.data
    while num_left > _FEW_WORDS:
        half = num_left >> 1
        # No branch, for the processor could not guess it.
        shard += half & -np.int64(load_word(words + 8 * (shard + half)) <= word)
        num_left -= half
    num_behind = 0
    for place in range(1, num_left):
        num_behind += load_word(words + 8 * (shard + place)) <= word
    shard += num_behind
    if words_S[shard] == word:  # then the words of shards before may be the same
        shard = lowest
        while end - shard > 1:
            middle = (shard + end) >> 1
            if comes_before(address, num_bytes, firsts_S2[middle, 0], firsts_S2[middle, 1]):
                end = middle
            else:
                shard = middle
    return shard


@njit()
def _slot_of(slot: int, tag: int, shard_C: np.ndarray) -> int:
    """The first slot with the tag, or empty, from a slot on."""
    while True:
        laid = np.int64(load_uint32(shard_C[TABLE] + 4 * slot))
        if laid == 0 or laid & _TAG_BITS == tag:
            return slot
        slot = slot + 1 if slot + 1 < shard_C[NUM_SLOTS] else 0


@njit()
def _row_in(slot: int, shard_C: np.ndarray) -> Any:
    """The row in a slot, within the shard; -1 for none."""
    return (np.int64(load_uint32(shard_C[TABLE] + 4 * slot)) & MOST_ROWS) - 1


@njit()
def _row_of(address: int, num_bytes: int, slot: int, tag: int, shard_C: np.ndarray) -> int:
    """The row of the key, whose tag is in the slot, or NOT_FOUND."""
    while True:
        row = _row_in(slot, shard_C)
        if row < 0:
            return NOT_FOUND
        start, end = load_int32(shard_C[OFFSETS] + 4 * row), load_int32(shard_C[OFFSETS] + 4 * row + 4)
        if are_equal(address, num_bytes, shard_C[TEXT] + start, end - start):
            return shard_C[START] + row
        slot = _slot_of(slot + 1 if slot + 1 < shard_C[NUM_SLOTS] else 0, tag, shard_C)


@njit()
def _confirm(key: int, found_2K: np.ndarray, places_3K: np.ndarray, shards_SC: np.ndarray) -> bool:
    """Put the row of a key, for which there is a place or a code below 0, into found_2K; whether there is a row."""
    if found_2K[0, key] >= 0:
        start, num_bytes = places_3K[0, key], places_3K[0, key + 1] - 1 - places_3K[0, key]
        shard_C = shards_SC[found_2K[1, key]]
        found_2K[0, key] = _row_of(start, num_bytes, places_3K[1, key], places_3K[2, key], shard_C)
    return found_2K[0, key] >= 0


@njit()
def _look_up(
    text: np.ndarray, firsts: tuple[Any, ...], shards_SC: np.ndarray, found_2K: np.ndarray, places_3K: np.ndarray
) -> None:
    """Find the shard of each key and the row, within the shard, that is likely its own; or a code below 0.

    places_3K: int64 [(address, slot, tag), key + 1], written.
    """
    rows_K, shards_K = found_2K[0], found_2K[1]
    starts_K, slots_K, tags_K = places_3K[0], places_3K[1], places_3K[2]
    num_keys = len(rows_K)
    if not _split(text, num_keys, starts_K):
        rows_K[:], shards_K[:] = NOT_FOUND, 0
        return
    # Each pass asks for what the next one reads, of all keys.
    for key in range(num_keys):
        num_bytes = starts_K[key + 1] - 1 - starts_K[key]
        shard, mixed = _shard_of(starts_K[key], num_bytes, firsts), hash_text(starts_K[key], num_bytes)
        slots_K[key], tags_K[key] = _slot(mixed, shards_SC[shard, NUM_SLOTS]), _tag(mixed)
        shards_K[key] = shard
        fetch_ahead(shards_SC[shard, TABLE] + 4 * slots_K[key])
    for key in range(num_keys):
        shard_C = shards_SC[shards_K[key]]
        rows_K[key] = CLOSED
        if shard_C[NUM_SLOTS]:
            slots_K[key] = _slot_of(slots_K[key], tags_K[key], shard_C)
            rows_K[key] = _row_in(slots_K[key], shard_C)
            fetch_ahead(shard_C[OFFSETS] + 4 * rows_K[key])
    for key in range(num_keys):
        if rows_K[key] >= 0:
            shard_C = shards_SC[shards_K[key]]
            offset = shard_C[OFFSETS] + 4 * rows_K[key]
            fetch_ahead(shard_C[TEXT] + load_int32(offset))
            fetch_ahead(shard_C[TEXT] + load_int32(offset + 4) - 1)


_numba: Any = types  # which leaves the next call untyped
_FIRSTS = _numba.Tuple([types.int64, types.uint64, types.int64, _WORDS, _PLACES, _SHARDS])


@compiled((_BYTES, _FIRSTS, _SHARDS, _SHARDS))
def find_keys(text: np.ndarray, firsts: tuple[Any, ...], shards_SC: np.ndarray, found_2K: np.ndarray) -> int:
    """Find the row and the shard of each key; returns how many are NOT_FOUND or CLOSED instead of a row.

    text: a key in each line; one that has other lines than keys finds none. firsts: see KeyTables. shards_SC: int64
    [shard, column], all zeros of one that is closed. found_2K: int64 [(row, shard), key], written.
    """
    num_keys, num_missing = found_2K.shape[1], 0
    places_3K = np.empty((3, num_keys + 1), np.int64)
    _look_up(text, firsts, shards_SC, found_2K, places_3K)
    for key in range(num_keys):
        num_missing += not _confirm(key, found_2K, places_3K, shards_SC)
    return num_missing


@compiled((_BYTES, _FIRSTS, _SHARDS, _SHARDS, _PLACES, types.int64, types.int64, types.Array(types.uint8, 2, "C")))
def fetch_keys(
    text: np.ndarray,
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
    num_missing = 0
    places_3K, sources_K = np.empty((3, num_keys + 1), np.int64), np.zeros(num_keys, np.int64)
    _look_up(text, firsts, shards_SC, found_2K, places_3K)
    for key in range(num_keys):
        origin = origins_S[found_2K[1, key]]
        if not _confirm(key, found_2K, places_3K, shards_SC):
            num_missing += 1
        elif origin == closed:
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
