"""128-bit hashes of rows: SipHash-2-4 with 128-bit output (Aumasson & Bernstein; the reference C code's `siphash`, outlen 16).

    hash(row) = sip(sip(sip(0 || column_1) || column_2) ...)      over the bytes of text, or 8 little-endian bytes of an integer

The key is fixed, since hashes are kept in snapshots; the chance of any collision among n rows is below n² / 2**129.
"""

from typing import Any

import numpy as np
from numba import njit

from pipeline.kernels.bytes import byte, word
from pipeline.kernels.compiling import READ_BYTES, READ_INTS, READ_INTS32, READ_WORDS, kernel

Array = np.ndarray[Any, Any]

K0, K1 = np.uint64(0x0706050403020100), np.uint64(0x0F0E0D0C0B0A0908)
C0, C1 = np.uint64(0x736F6D6570736575), np.uint64(0x646F72616E646F6D)
C2, C3 = np.uint64(0x6C7967656E657261), np.uint64(0x7465646279746573)
ONE, FF, EE, DD = np.uint64(1), np.uint64(0xFF), np.uint64(0xEE), np.uint64(0xDD)


@njit(forceinline=True)
def _rotl(x, b):  # type: ignore[no-untyped-def]
    return (x << np.uint64(b)) | (x >> np.uint64(64 - b))


@njit(forceinline=True)
def _round(v0, v1, v2, v3):  # type: ignore[no-untyped-def]
    v0 += v1
    v1 = _rotl(v1, 13) ^ v0
    v0 = _rotl(v0, 32)
    v2 += v3
    v3 = _rotl(v3, 16) ^ v2
    v0 += v3
    v3 = _rotl(v3, 21) ^ v0
    v2 += v1
    v1 = _rotl(v1, 17) ^ v2
    v2 = _rotl(v2, 32)
    return v0, v1, v2, v3


@njit(forceinline=True)
def _absorb(v0, v1, v2, v3, m):  # type: ignore[no-untyped-def]
    v3 ^= m
    v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    return v0 ^ m, v1, v2, v3


@njit(forceinline=True)
def _finish(v0, v1, v2, v3):  # type: ignore[no-untyped-def]
    v2 ^= EE
    for _ in range(4):
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    low = v0 ^ v1 ^ v2 ^ v3
    v1 ^= DD
    for _ in range(4):
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    return low, v0 ^ v1 ^ v2 ^ v3


@kernel((READ_INTS32, READ_BYTES, READ_WORDS), (READ_INTS, READ_BYTES, READ_WORDS))
def hash_bytes(offsets: Array, data: Array, before: Array) -> Array:
    """uint64 (n, 2): row i is sip(before[i] || data[offsets[i]:offsets[i + 1]]); offsets of integers (n + 1,), before uint64 (n, 2)."""
    n = len(offsets) - 1
    out = np.empty((n, 2), np.uint64)
    text = data.ctypes.data
    for i in range(n):
        start, end = np.int64(offsets[i]), np.int64(offsets[i + 1])
        length = end - start
        v0, v1, v2, v3 = K0 ^ C0, K1 ^ C1 ^ EE, K0 ^ C2, K1 ^ C3
        v0, v1, v2, v3 = _absorb(v0, v1, v2, v3, before[i, 0])
        v0, v1, v2, v3 = _absorb(v0, v1, v2, v3, before[i, 1])
        at = start
        for _ in range(length >> 3):
            v0, v1, v2, v3 = _absorb(v0, v1, v2, v3, word(text, at))
            at += 8
        m = (np.uint64(length + 16) & FF) << np.uint64(56)
        for k in range(end - at):
            m |= np.uint64(byte(text, at + k)) << np.uint64(8 * k)
        v0, v1, v2, v3 = _absorb(v0, v1, v2, v3, m)
        out[i, 0], out[i, 1] = _finish(v0, v1, v2, v3)
    return out


@kernel((READ_INTS, READ_WORDS))
def hash_ints(values: Array, before: Array) -> Array:
    """uint64 (n, 2): row i is sip(before[i] || the 8 little-endian bytes of values[i]); values int64."""
    n = len(values)
    out = np.empty((n, 2), np.uint64)
    for i in range(n):
        v0, v1, v2, v3 = K0 ^ C0, K1 ^ C1 ^ EE, K0 ^ C2, K1 ^ C3
        v0, v1, v2, v3 = _absorb(v0, v1, v2, v3, before[i, 0])
        v0, v1, v2, v3 = _absorb(v0, v1, v2, v3, before[i, 1])
        v0, v1, v2, v3 = _absorb(v0, v1, v2, v3, np.uint64(values[i]))
        v0, v1, v2, v3 = _absorb(v0, v1, v2, v3, np.uint64(24) << np.uint64(56))
        out[i, 0], out[i, 1] = _finish(v0, v1, v2, v3)
    return out
