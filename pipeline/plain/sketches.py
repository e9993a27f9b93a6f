"""The two sketches, computed the slow way: registers in a dict, bucket bounds in a list, fractions, SipHash on Python's integers.

estimate(registers) and middle(bucket) as pipeline.DistinctCount and pipeline.Quantile document them
"""

from bisect import bisect_right
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from decimal import Context, Decimal
from fractions import Fraction
from math import floor
from typing import Any

from pipeline.base.types import INT_MAX
from pipeline.plain.values import epoch_us, unscaled

WORD = 2**64
REGISTERS = 4096
HASHED = 52  # bits of the hash beside those that choose the register


def sip_hash(message: bytes) -> int:
    """The low 64 bits of SipHash-2-4-128 of the message, with the key 00 01 02 ... 0f."""
    key0, key1 = (int.from_bytes(bytes(range(at, at + 8)), "little") for at in (0, 8))
    seeds = [int.from_bytes(word, "big") for word in (b"somepseu", b"dorandom", b"lygenera", b"tedbytes")]
    v = [key0 ^ seeds[0], key1 ^ seeds[1] ^ 0xEE, key0 ^ seeds[2], key1 ^ seeds[3]]
    padded = message + bytes(-(len(message) + 1) % 8) + bytes([len(message) % 256])
    for at in range(0, len(padded), 8):
        word = int.from_bytes(padded[at : at + 8], "little")
        v[3] ^= word
        v = _mixed(_mixed(v))
        v[0] ^= word
    v[2] ^= 0xEE
    for _ in range(4):
        v = _mixed(v)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def _mixed(v: list[int]) -> list[int]:
    """One SipRound."""
    a, b, c, d = v
    a = (a + b) % WORD
    b = _turned(b, 13) ^ a
    a = _turned(a, 32)
    c = (c + d) % WORD
    d = _turned(d, 16) ^ c
    a = (a + d) % WORD
    d = _turned(d, 21) ^ a
    c = (c + b) % WORD
    b = _turned(b, 17) ^ c
    return [a, b, _turned(c, 32), d]


def _turned(word: int, bits: int) -> int:
    return (word << bits) % WORD | word >> (64 - bits)


def register_and_rank(value: Any, scale: int, width: int = 8) -> tuple[int, int]:
    """Register that a value (not null) belongs to, and the rank that it lifts it to."""
    hashed = sip_hash(bytes(16) + _bytes(value, scale, width))
    rest, register = divmod(hashed, REGISTERS)
    rank = 1
    while rest % 2 == 0 and rank <= HASHED:
        rest //= 2
        rank += 1
    return register, rank


def _bytes(value: Any, scale: int, width: int) -> bytes:
    """UTF-8 of text, bytes as they are; else `width` bytes, little-endian, of the number that stands for the value."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes):
        return value
    if isinstance(value, time):
        value = datetime.combine(date(1970, 1, 1), value, UTC)
    if isinstance(value, datetime):
        number = epoch_us(value)
    elif isinstance(value, date):
        number = value.toordinal() - date(1970, 1, 1).toordinal()
    else:
        number = unscaled(value, scale)
    return number.to_bytes(width, "little", signed=True)


def estimate(registers: Mapping[int, int]) -> int:
    """Estimate of how many different values lifted the registers to these ranks."""
    if not registers:
        return 0
    x = Fraction(REGISTERS - len(registers), REGISTERS)
    sigma, weight = x, 1
    while x:
        x = Fraction(floor(x * x * WORD), WORD)
        sigma += x * weight
        weight *= 2
    harmonic = sum((Fraction(1, 2**rank) for rank in registers.values()), Fraction(0))
    context = Context(prec=60)
    alpha = Fraction(round(context.divide(Decimal(WORD), 2 * context.ln(Decimal(2)))), WORD)
    return min(floor(alpha * REGISTERS**2 / (REGISTERS * sigma + harmonic) + Fraction(1, 2)), INT_MAX)


def _bounds() -> list[int]:
    """The least magnitude of each bucket, ascending: 128 of width 1, then 64 each of width 2, 4, 8, ..."""
    bounds, width = list(range(128)), 2
    while bounds[-1] < WORD**2:
        bounds += range(bounds[-1] + width // 2, 2 * (bounds[-1] + width // 2), width)
        width *= 2
    return bounds


BOUNDS = _bounds()


def bucket(number: int) -> int:
    """The bucket of an unscaled value: negative for negative values, so that buckets order as values do."""
    index = bisect_right(BOUNDS, abs(number)) - 1
    return index if number >= 0 else -index


def middle(found: int) -> Fraction:
    """The mean of the least and the greatest whole number of a bucket."""
    mean = Fraction(BOUNDS[abs(found)] + BOUNDS[abs(found) + 1] - 1, 2)
    return mean if found >= 0 else -mean


def bucket_at(counts: Mapping[int, int], rank: int) -> int:
    """The bucket of value number `rank`, from 0, in ascending order."""
    for found in sorted(counts):
        rank -= counts[found]
        if rank < 0:
            return found
    raise AssertionError(f"no value has rank {rank}")
