"""What compiled loops do with addresses: read, fetch ahead and copy bytes, and compare and hash texts.

numba looks for changes of a loop in the file that has the loop alone: after a change here, touch key_kernels.py too.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

_ALL_BITS = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
_PAGE_BYTES = 4096
_FACTORS = np.uint64(0x9E37_79B9_7F4A_7C15), np.uint64(0xD6E8_FEB8_6659_FD93)  # odd, with bits all over

Generate = Callable[..., Any]
"""Writes the instructions."""


def _intrinsic(made: Callable[..., tuple[Any, Generate]]) -> Any:
    """Typed as what numba makes of it: called with the arguments after the first."""
    return intrinsic(made)


def _pointer(builder: ir.IRBuilder, address: ir.Value, bits: int) -> ir.Value:
    return builder.inttoptr(address, ir.IntType(bits).as_pointer())


def _loader(bits: int, kind: Any) -> Any:
    @_intrinsic
    def load(_: Any, address: Any) -> tuple[Any, Generate]:
        def generate(_: Any, builder: ir.IRBuilder, __: Any, values: Sequence[ir.Value]) -> ir.Value:
            loaded = builder.load(_pointer(builder, values[0], bits))
            loaded.align = 1
            return loaded

        return kind(types.int64), generate

    return load


load_word, load_int32 = _loader(64, types.uint64), _loader(32, types.int32)
_load_byte = _loader(8, types.uint8)


@_intrinsic
def _swap_bytes(_: Any, word: Any) -> tuple[Any, Generate]:
    def generate(_: Any, builder: ir.IRBuilder, __: Any, values: Sequence[ir.Value]) -> ir.Value:
        return builder.bswap(values[0])

    return types.uint64(types.uint64), generate


@_intrinsic
def _fold(_: Any, one: Any, other: Any) -> tuple[Any, Generate]:
    """The upper and the lower half of a product of 128 bits, laid over each other."""

    def generate(_: Any, builder: ir.IRBuilder, __: Any, values: Sequence[ir.Value]) -> ir.Value:
        half, whole = ir.IntType(64), ir.IntType(128)
        product = builder.mul(*(builder.zext(value, whole) for value in values))
        return builder.xor(builder.trunc(product, half), builder.trunc(builder.lshr(product, whole(64)), half))

    return types.uint64(types.uint64, types.uint64), generate


@_intrinsic
def fetch_ahead(_: Any, address: Any) -> tuple[Any, Generate]:
    """Ask for the bytes at an address, which may be any: it is read where it can be, and nothing happens elsewhere."""

    def generate(context: Any, builder: ir.IRBuilder, __: Any, values: Sequence[ir.Value]) -> ir.Value:
        pointer, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer, flag, flag, flag])
        function = builder.module.declare_intrinsic("llvm.prefetch", [pointer], kind)
        builder.call(function, [_pointer(builder, values[0], 8), flag(0), flag(3), flag(1)])
        return context.get_dummy_value()

    return types.void(types.int64), generate


@_intrinsic
def copy_bytes(_: Any, to: Any, source: Any, num_bytes: Any) -> tuple[Any, Generate]:
    """Copy bytes from an address to another; the two stretches do not overlap."""

    def generate(context: Any, builder: ir.IRBuilder, __: Any, values: Sequence[ir.Value]) -> ir.Value:
        pointer = ir.IntType(8).as_pointer()
        function = builder.module.declare_intrinsic("llvm.memcpy", [pointer, pointer, ir.IntType(64)])
        ends = [_pointer(builder, value, 8) for value in values[:2]]
        builder.call(function, [*ends, values[2], ir.IntType(1)(0)])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


@njit()
def word_at(address: int, num_bytes: int) -> Any:
    """Up to eight bytes as one number, zeros after them: numbers are in the order of the bytes."""
    if num_bytes >= 8:
        return _swap_bytes(load_word(address))
    if num_bytes <= 0:
        return np.uint64(0)
    if address & (_PAGE_BYTES - 1) <= _PAGE_BYTES - 8:  # what follows in the same page can be read too
        return _swap_bytes(load_word(address)) & (_ALL_BITS << np.uint64(64 - 8 * num_bytes))
    word = np.uint64(0)
    for place in range(num_bytes):
        word |= np.uint64(_load_byte(address + place)) << np.uint64(56 - 8 * place)
    return word


@njit()
def hash_text(address: int, num_bytes: int, seed: Any) -> Any:
    """64 bits that depend on all bytes of a text and, in another way for each two texts, on the seed, 64 bits too."""
    mixed = _fold(seed ^ _FACTORS[0], np.uint64(num_bytes) ^ _FACTORS[1])
    for place in range(0, num_bytes, 8):
        mixed = _fold(mixed ^ _FACTORS[0], word_at(address + place, num_bytes - place) ^ seed)
    return _fold(mixed ^ _FACTORS[1], _FACTORS[0])


@njit()
def comes_before(one: int, num_one: int, other: int, num_other: int) -> bool:
    """Whether a text comes before another in the order of their bytes."""
    for place in range(0, min(num_one, num_other), 8):
        left, right = word_at(one + place, num_one - place), word_at(other + place, num_other - place)
        if left != right:
            return left < right
    return num_one < num_other
