"""What the compiled loops on the CPU lean on: raw memory, shared counters, bfloat16, a fast exponential.

Everything here is inlined into the loops by LLVM.
"""

# mypy: ignore-errors
# (Numba's Python: functions are generic, intrinsics get their first argument from the compiler)

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, float32, int32, njit, types, uint16, uint32
from numba.extending import intrinsic, overload

__all__ = [
    "BLOCK",
    "EXPONENT",
    "STREAMED",
    "add_counts",
    "add_one",
    "at",
    "bf16",
    "bits_of",
    "copy_block",
    "exp",
    "fetch",
    "from_bf16",
    "stream",
    "streamed",
    "widened",
]

BLOCK = 16  # elements that are moved at once
STREAMED = 4 * BLOCK  # bytes that are moved past the caches at once
EXPONENT = np.uint32(0x7F800000)  # of a float32: all of its bits are set in NaN and infinity


@intrinsic
def _pointer(context: Any, address: Any) -> Any:
    """An address as a pointer."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.int64), generate


@intrinsic
def add_one(context: Any, address: Any) -> Any:
    """Add 1 to the int64 at an address, as one indivisible step among threads; returns what was there before."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = ir.IntType(64)
        return builder.atomic_rmw("add", builder.inttoptr(args[0], word.as_pointer()), ir.Constant(word, 1), "seq_cst")

    return types.int64(types.int64), generate


def _block(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, ir.VectorType(ir.FloatType(), BLOCK).as_pointer())


@intrinsic
def copy_block(context: Any, target: Any, source: Any) -> Any:
    """Copy a block of float32 from one address to another."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(builder.load(_block(builder, args[1]), align=4), _block(builder, args[0]), align=4)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def add_counts(context: Any, target: Any, a: Any, b: Any) -> Any:
    """Write the sum of the blocks of uint8 at two addresses to a third."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        block = ir.VectorType(ir.IntType(8), BLOCK).as_pointer()
        target, a, b = (builder.inttoptr(address, block) for address in args)
        builder.store(builder.add(builder.load(a, align=1), builder.load(b, align=1)), target, align=1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


@intrinsic
def _stream_block(context: Any, target: Any, source: Any) -> Any:
    """Copy a block past the caches; the target lies at a multiple of its size."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        one = builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)])
        store = builder.store(builder.load(_block(builder, args[1]), align=4), _block(builder, args[0]), align=STREAMED)
        store.set_metadata("nontemporal", one)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def streamed(context: Any) -> Any:
    """Make what was streamed visible to other threads."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate


@njit
def stream(source, target, count):
    """Copy so many bytes past the caches, to be read again only after more than these can hold; both addresses and the
    count are multiples of a block's bytes."""
    for byte in range(0, count, STREAMED):
        _stream_block(target + byte, source + byte)


@intrinsic
def _fetch(context: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = ir.IntType(32)
        pointer = builder.inttoptr(args[0], ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, word, word, word])
        function = builder.module.declare_intrinsic("llvm.prefetch", [pointer.type], kind)
        builder.call(function, [pointer, *(ir.Constant(word, n) for n in (0, 2, 1))])  # read, second-level cache, data
        return context.get_dummy_value()

    return types.void(types.int64), generate


@njit
def fetch(address, count):
    """Ask for so many bytes of memory that will be read soon."""
    for byte in range(0, count, 64):
        _fetch(address + byte)


@intrinsic
def _float_of(context: Any, bits: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.uint32), generate


@intrinsic
def bits_of(context: Any, value: Any) -> Any:
    """The bits of a float32."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(32))

    return types.uint32(types.float32), generate


@njit
def at(address, count, dtype):
    """The array of `count` elements at an address."""
    return carray(_pointer(address), (count,), dtype)


@njit
def from_bf16(bits):
    """uint16 bits of a bfloat16 -> float32."""
    return _float_of(uint32(bits) << uint32(16))


def widened(value):
    """A float32, or the bits of a bfloat16, as float32."""
    raise NotImplementedError("for compiled code")


@overload(widened, inline="always")
def _widened(value):
    return (lambda value: from_bf16(value)) if value == types.uint16 else (lambda value: value)


@njit
def bf16(value):
    """float32 -> uint16 bits of the nearest bfloat16, ties to even; NaN stays NaN."""
    bits = bits_of(value)
    rounded = (bits + uint32(0x7FFF) + ((bits >> uint32(16)) & uint32(1))) >> uint32(16)
    return uint16(rounded) if value == value else uint16(0x7FC0)


@njit
def exp(x):
    """e^x in float32 to about 1 unit in the last place (Cephes' polynomial); 0 for what would be subnormal, never
    above 2.4e38.

    The C library's is a call that LLVM cannot vectorise.
    """
    z = min(max(x, float32(-87.3)), float32(88.37))
    n = np.floor(z * float32(1.44269504088896341) + float32(0.5))
    r = z - n * float32(0.693359375)
    r = r + n * float32(2.12194440e-4)
    p = float32(1.9875691500e-4)
    p = p * r + float32(1.3981999507e-3)
    p = p * r + float32(8.3334519073e-3)
    p = p * r + float32(4.1665795894e-2)
    p = p * r + float32(1.6666665459e-1)
    p = p * r + float32(5.0000001201e-1)
    y = p * r * r + r + float32(1)
    y = y * _float_of(uint32(int32(n) + int32(127)) << uint32(23))
    return y if x >= float32(-87.3) else (float32(0) if x == x else x)
