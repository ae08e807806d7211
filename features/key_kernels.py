"""Loops that find keys in memory maps and copy vectors out of them, compiled for the processor they run on.

They take addresses, since shards lie in maps of their own. The bytes of memory are fetched ahead, for many rows at
once: what such a loop takes is mostly the time that memory takes to answer.
"""

from typing import Any

import numpy as np
from numba import njit, types

from features.compiling import compiled
from features.memory_kernels import (
    comes_before,
    copy_bytes,
    fetch_ahead,
    hash_text,
    is_same,
    load_int32,
    load_uint16,
    load_uint32,
    load_word,
    word_at,
)

NOT_FOUND, CLOSED = -1, -2
# Columns of the array that describes the tables of shards: the first row, where the slots are, how many, and of how
# many bytes; and the lower bits of a slot that are the row in its shard, counted from 1. Those above are its tag, the
# lower bits of the key's hash.
START, TABLE, NUM_SLOTS, SLOT_BYTES, ROW_BITS = range(5)
# And of the array that tells where their keys are: the addresses of int32 [row + 1], the ends of the keys in a text,
# and of the text.
ENDS, TEXT = range(2)

_NEWLINE = 10
_LINE_BYTES = 64
FEW_WORDS = 16  # are compared at once
# Of the vectors that are copied next, the first lines: the processor itself asks for those that follow. Measured: from
# 2 rows and all lines to 16 rows and 2 lines do nearly alike.
_ROWS_AHEAD, _BYTES_AHEAD = 8, 512

_BYTES = types.Array(types.uint8, 1, "C", readonly=True)
_PLACES = types.Array(types.int64, 1, "C")
_SLOTS = types.Array(types.uint16, 1, "C"), types.Array(types.uint32, 1, "C")
_SHARDS = types.Array(types.int64, 2, "C")


@njit()
def _slot(mixed: Any, num_slots: int) -> Any:
    """The upper bits of a hash as a number below num_slots."""
    return np.int64((mixed >> np.uint64(32)) * np.uint64(num_slots) >> np.uint64(32))


@njit()
def _lowest(number: Any, bits: Any) -> Any:
    """The lower bits of a number."""
    return np.int64(np.uint64(number) & ((np.uint64(1) << np.uint64(bits)) - np.uint64(1)))


@njit()
def _tag(mixed: Any, slot_bytes: Any, row_bits: Any) -> Any:
    """Of a hash, as many bits as a slot has room for beside the row."""
    return _lowest(mixed, 8 * slot_bytes - row_bits)


@compiled(*((types.int64, types.int64, types.int64, types.uint64, types.int64, slots) for slots in _SLOTS))
def fill_table(ends: int, text: int, num_rows: int, seed: int, row_bits: int, slots: np.ndarray) -> None:
    """Lay the rows of a shard, counted from 1, each into the first free slot from that of its key's hash on.

    ends, text: where its keys are. slots: zeros, more than there are rows.
    """
    num_slots = len(slots)
    for row in range(num_rows):
        start, end = load_int32(ends + 4 * row), load_int32(ends + 4 * row + 4)
        mixed = hash_text(text + start, end - start, seed)
        place = _slot(mixed, num_slots)
        while slots[place]:
            place = place + 1 if place + 1 < num_slots else 0
        slots[place] = _tag(mixed, slots.itemsize, row_bits) << row_bits | (row + 1)


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
def _shards_of(text: np.ndarray, firsts: tuple[Any, ...], starts_K: np.ndarray, shards_K: np.ndarray) -> bool:
    """Write where the keys begin in memory, one in each line, and the shard that may hold each; whether there are as
    many lines as there should be."""
    if not _split(text, len(shards_K), starts_K):
        return False
    for key in range(len(shards_K)):
        shards_K[key] = _shard_of(starts_K[key], starts_K[key + 1] - 1 - starts_K[key], firsts)
    return True


@njit()
def _next_alike(mixed: Any, slot: Any, table: Any) -> Any:
    """The first slot from this one on whose tag is that of the hash, and its row, counted from 0 in the shard; the row
    is NOT_FOUND if a free slot comes first."""
    _, address, num_slots, slot_bytes, row_bits = table
    tag = _tag(mixed, slot_bytes, row_bits)
    while True:
        if slot_bytes == 2:
            laid = np.int64(load_uint16(address + 2 * slot))
        else:
            laid = np.int64(load_uint32(address + 4 * slot))
        if laid == 0:
            return slot, np.int64(NOT_FOUND)
        if laid >> row_bits == tag:
            return slot, _lowest(laid, row_bits) - 1
        slot = slot + 1 if slot + 1 < num_slots else 0


@njit()
def _table(tables_SC: np.ndarray, shard: Any) -> Any:
    return (
        tables_SC[shard, START],
        tables_SC[shard, TABLE],
        tables_SC[shard, NUM_SLOTS],
        tables_SC[shard, SLOT_BYTES],
        tables_SC[shard, ROW_BITS],
    )


@njit()
def _look_up(
    starts_K: np.ndarray,
    seed: Any,
    tables_SC: np.ndarray,
    keys_SC: np.ndarray,
    rows_K: np.ndarray,
    shards_K: np.ndarray,
) -> Any:
    """Find the row of each key in its shard, or a code below 0; how many codes there are.

    Each pass asks for what the next one reads, of all keys.
    """
    num_keys, num_missing = len(rows_K), 0
    hashes_K, slots_K = np.empty(num_keys, np.uint64), np.empty(num_keys, np.int64)
    for key in range(num_keys):
        shard = shards_K[key]
        hashes_K[key] = hash_text(starts_K[key], starts_K[key + 1] - 1 - starts_K[key], seed)
        slots_K[key] = _slot(hashes_K[key], tables_SC[shard, NUM_SLOTS])
        fetch_ahead(tables_SC[shard, TABLE] + tables_SC[shard, SLOT_BYTES] * slots_K[key])
    for key in range(num_keys):
        shard = shards_K[key]
        if tables_SC[shard, NUM_SLOTS] and keys_SC[shard, ENDS]:
            slots_K[key], rows_K[key] = _next_alike(hashes_K[key], slots_K[key], _table(tables_SC, shard))
            fetch_ahead(keys_SC[shard, ENDS] + 4 * rows_K[key])
        else:
            rows_K[key] = CLOSED
    for key in range(num_keys):
        if rows_K[key] >= 0:
            ends, text = keys_SC[shards_K[key], ENDS], keys_SC[shards_K[key], TEXT]
            fetch_ahead(text + load_int32(ends + 4 * rows_K[key]))
    for key in range(num_keys):
        shard, num_bytes = shards_K[key], starts_K[key + 1] - 1 - starts_K[key]
        ends, text = keys_SC[shard, ENDS], keys_SC[shard, TEXT]
        while rows_K[key] >= 0:
            start, end = load_int32(ends + 4 * rows_K[key]), load_int32(ends + 4 * rows_K[key] + 4)
            if is_same(starts_K[key], num_bytes, text + start, end - start):
                rows_K[key] += tables_SC[shard, START]
                break
            slot = slots_K[key] + 1 if slots_K[key] + 1 < tables_SC[shard, NUM_SLOTS] else 0
            slots_K[key], rows_K[key] = _next_alike(hashes_K[key], slot, _table(tables_SC, shard))
        num_missing += rows_K[key] < 0
    return num_missing


_numba: Any = types  # which leaves the next call untyped
_FIRSTS = _numba.Tuple([types.int64, types.uint64, *[types.int64] * 5])


@compiled((_BYTES, _FIRSTS, _PLACES, _PLACES))
def find_shards(text: np.ndarray, firsts: tuple[Any, ...], starts_K: np.ndarray, shards_K: np.ndarray) -> bool:
    """Find the shard that may hold each key; False if there are other lines than keys.

    text: a key in each line. firsts: see KeyTables. starts_K: int64 [key + 1], written, where keys begin in memory;
    shards_K: int64 [key], written.
    """
    return bool(_shards_of(text, firsts, starts_K, shards_K))


@compiled((_PLACES, types.uint64, _SHARDS, _SHARDS, _PLACES, _PLACES))
def find_rows(
    starts_K: np.ndarray,
    seed: np.uint64,
    tables_SC: np.ndarray,
    keys_SC: np.ndarray,
    rows_K: np.ndarray,
    shards_K: np.ndarray,
) -> int:
    """Find the row of each key in its shard; returns how many are NOT_FOUND or CLOSED instead of a row.

    starts_K, shards_K: as find_shards() writes them. seed: of the tables. tables_SC, keys_SC: int64 [shard, column],
    all zeros of one that is closed. rows_K: int64 [key], written.
    """
    return int(_look_up(starts_K, seed, tables_SC, keys_SC, rows_K, shards_K))


@compiled(
    (
        _BYTES,
        types.uint64,
        _FIRSTS,
        _SHARDS,
        _SHARDS,
        _PLACES,
        _PLACES,
        types.int64,
        types.Array(types.uint8, 2, "C"),
    )
)
def fetch_keys(
    text: np.ndarray,
    seed: np.uint64,
    firsts: tuple[Any, ...],
    tables_SC: np.ndarray,
    keys_SC: np.ndarray,
    origins_S: np.ndarray,
    rows_K: np.ndarray,
    item_bytes: int,
    vectors_KB: np.ndarray,
) -> int:
    """Find keys as find_shards() and find_rows() do and copy their vectors; returns how many were not found.

    origins_S: int64 [shard], where row 0 would be, counted in numbers of item_bytes from address 0, of a shard whose
    keys_SC are there; vectors_KB: uint8 [key, byte], written.
    """
    num_keys, num_bytes = vectors_KB.shape
    starts_K, shards_K = np.empty(num_keys + 1, np.int64), np.empty(num_keys, np.int64)
    if not _shards_of(text, firsts, starts_K, shards_K):
        rows_K[:] = NOT_FOUND
        return num_keys
    num_missing = _look_up(starts_K, seed, tables_SC, keys_SC, rows_K, shards_K)
    sources_K = np.zeros(num_keys, np.int64)
    for key in range(num_keys):
        if rows_K[key] >= 0:
            sources_K[key] = origins_S[shards_K[key]] * item_bytes + rows_K[key] * num_bytes
    target = vectors_KB.ctypes.data
    for key in range(num_keys):
        later = sources_K[min(key + _ROWS_AHEAD, num_keys - 1)]
        for byte in range(0, min(num_bytes, _BYTES_AHEAD), _LINE_BYTES):
            fetch_ahead(later + byte)
        if sources_K[key]:
            copy_bytes(target + key * num_bytes, sources_K[key], num_bytes)
    return int(num_missing)
