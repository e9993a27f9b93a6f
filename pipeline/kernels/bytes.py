"""Raw memory for kernels that scan text: reads and writes at addresses, without a reference count and without any check.

    byte(p, i) = the byte at p + i        word(p, i) = the 8 bytes from p + i on, little-endian        int_at(p, i) = the i-th int64 from p

An array that goes from one compiled function to the next is counted each time, which costs more than parsing a field. So the outermost
function, which holds the arrays, hands on their addresses (`array.ctypes.data`); whoever calls keeps 0 <= i and i within the array.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

LOW_BITS = np.uint64(0x0101010101010101)
HIGH_BITS = np.uint64(0x8080808080808080)


def _place(builder: Any, address: Any, index: Any, element: Any) -> Any:
    return builder.gep(builder.inttoptr(address, element.as_pointer()), [index])


def _reader(result: Any, element: Any, unaligned: bool = False) -> Any:
    def typed(context, address, index):  # type: ignore[no-untyped-def]
        def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            if unaligned:
                place = builder.bitcast(
                    _place(builder, arguments[0], arguments[1], ir.IntType(8)), element.as_pointer()
                )
            else:
                place = _place(builder, arguments[0], arguments[1], element)
            found = builder.load(place)
            found.align = 1 if unaligned else element.width // 8 if hasattr(element, "width") else 8
            return found

        return result(types.int64, types.int64), code

    return intrinsic(typed)


def _writer(value: Any, element: Any, unaligned: bool = False) -> Any:
    def typed(context, address, index, given):  # type: ignore[no-untyped-def]
        def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            if unaligned:
                place = builder.bitcast(
                    _place(builder, arguments[0], arguments[1], ir.IntType(8)), element.as_pointer()
                )
            else:
                place = _place(builder, arguments[0], arguments[1], element)
            stored = builder.store(arguments[2], place)
            if unaligned:
                stored.align = 1
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, value), code

    return intrinsic(typed)


byte = _reader(types.uint8, ir.IntType(8))
word = _reader(types.uint64, ir.IntType(64), unaligned=True)
int_at = _reader(types.int64, ir.IntType(64))
set_byte = _writer(types.uint8, ir.IntType(8))
set_int = _writer(types.int64, ir.IntType(64))
set_word = _writer(types.uint64, ir.IntType(64), unaligned=True)
set_real = _writer(types.float64, ir.DoubleType())


@intrinsic
def prefetch(context, address, index):  # type: ignore[no-untyped-def]
    """Ask for the cache line of the byte at address + index, which is soon read and written; nothing happens if it is no memory of ours."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        pointer = ir.IntType(8).as_pointer()
        number = ir.IntType(32)
        function = builder.module.declare_intrinsic(
            "llvm.prefetch", [pointer], ir.FunctionType(ir.VoidType(), [pointer, *[number] * 3])
        )
        place = _place(builder, arguments[0], arguments[1], ir.IntType(8))
        builder.call(function, [place, ir.Constant(number, 1), ir.Constant(number, 3), ir.Constant(number, 1)])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), code


@njit(forceinline=True)
def copy_bytes(source, start, end, target, at):  # type: ignore[no-untyped-def]
    """Copy the bytes [start, end) of the address `source` to `target` + at."""
    while start + 8 <= end:
        set_word(target, at, word(source, start))
        start += 8
        at += 8
    while start < end:
        set_byte(target, at, byte(source, start))
        start += 1
        at += 1


@intrinsic
def _trailing_zeros(context, value):  # type: ignore[no-untyped-def]
    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), code


@njit(forceinline=True)
def zeros_behind(value):  # type: ignore[no-untyped-def]
    """Number of zero bits that a uint64, which is not 0, ends in; int64."""
    return np.int64(_trailing_zeros(value))  # type: ignore[call-arg]


@njit(forceinline=True)
def first_byte(marks):  # type: ignore[no-untyped-def]
    """The number of the lowest byte of `marks` (uint64, not 0) whose high bit is set."""
    return zeros_behind(marks) >> 3


@njit(forceinline=True)
def equal_bytes(value, wanted):  # type: ignore[no-untyped-def]
    """Marks (high bits) at the bytes of the word `value` that equal the byte that `wanted` repeats; exact up to the first one."""
    other = value ^ wanted
    return (other - LOW_BITS) & ~other & HIGH_BITS


@njit(forceinline=True)
def below_32(value):  # type: ignore[no-untyped-def]
    """Marks at the bytes of a word that are below 32; exact up to the first one."""
    return (value - LOW_BITS * np.uint64(32)) & ~value & HIGH_BITS
