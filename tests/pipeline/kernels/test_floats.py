"""nearest(w, q) = float(f"{w}e{q}"), to the bit: at random, beside the middle between two doubles, and at every border."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.kernels.floats import nearest

WORDS = st.integers(0, 2**64 - 1) | st.integers(0, 2**53) | st.integers(0, 64).map(lambda bits: 2**bits - 1)


def bits(value: float) -> bytes:
    return struct.pack("<d", value)


@settings(max_examples=3000, deadline=None)
@given(WORDS, st.integers(-400, 400))
@example(2**53 + 1, 0)
@example(24703282292062327, -340)  # just below half of the smallest double
@example(24703282292062328, -340)
@example(22250738585072011, -324)  # below the smallest normal one
@example(17976931348623157, 292)
@example(17976931348623159, 292)  # beyond the largest
def test_the_nearest_double_is_pythons(w: int, q: int) -> None:
    assert bits(nearest(np.uint64(w), np.int64(q))) == bits(float(f"{w}e{q}"))


@settings(max_examples=2000, deadline=None)
@given(st.integers(2**52, 2**53 - 1), st.integers(0, 10), st.integers(-1, 1), st.integers(-30, 30))
def test_beside_the_middle_of_two_doubles_it_goes_to_the_nearer_and_in_it_to_the_even_one(
    mantissa: int, shift: int, beside: int, q: int
) -> None:
    w = (2 * mantissa + 1 << shift) + beside
    assert bits(nearest(np.uint64(w), np.int64(q))) == bits(float(f"{w}e{q}"))


@pytest.mark.parametrize("w", [1, 9, 2**53 + 1, 2**64 - 1, 4940656458412465, 49406564584124654])
def test_every_power_of_ten_is_right(w: int) -> None:
    for q in range(-365, 330):
        assert bits(nearest(np.uint64(w), np.int64(q))) == bits(float(f"{w}e{q}")), q
