"""Reasons that one rule gives have one shape, whatever the values were; a rule's own numbers stay in it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.accept.reasons import shape

TEXTS = st.text(max_size=20)
NUMBERS = st.integers().map(str) | st.floats(allow_nan=False, allow_infinity=False).map(str)


@given(TEXTS, NUMBERS, st.integers(0, 99))
def test_no_value_is_left_in_a_shape(text: str, number: str, place: int) -> None:
    assert shape(f"at: {text!r} is no ISO 8601 timestamp, as 2013-01-31T13:05:00Z") == (
        "at: … is no ISO 8601 timestamp, as 2013-01-31T13:05:00Z"
    )
    assert shape(f"duplicate key {text!r}") == "duplicate key …"
    assert shape(f"amount: {number} is not whole") == "amount: … is not whole"
    assert shape(f"broken JSON: Expecting value at character {place}") == "broken JSON: Expecting value at character …"
    assert shape(f"n: a number of {place} characters is out of range") == "n: a number of … characters is out of range"


@pytest.mark.parametrize(
    "reason",
    [
        "amount: breaks Between(low=0, high=100)",
        "shop: breaks OneOf('a', 'b')",
        "amount: more decimals than Scale(2)",
        "id: null, or missing, where it is not allowed",
        "amount: text where a decimal is declared",
    ],
)
def test_what_is_the_rules_own_stays(reason: str) -> None:
    assert shape(reason) == reason
