"""Texts cleaned by a Text mark: a column of them is each of them cleaned, compiled or not, and what the reference makes of it."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline import Text
from pipeline.accept.texts import clean, cleaned
from pipeline.base.errors import DefinitionError
from pipeline.plain.written import cleaned as plainly

MARKS = st.builds(
    lambda strip, trim, case, form: Text(strip, trim, case, form) if strip or trim or case or form else Text("\x00"),
    st.sampled_from(["", "\x00", "aE \x00", "é-", "\u0301"]),
    st.booleans(),
    st.sampled_from([None, "lower", "upper"]),
    st.sampled_from([None, "NFC", "NFD", "NFKC", "NFKD"]),
)
WORDS = [
    "",
    " ",
    "\x00",
    " A\x00 b ",
    "É",
    "e\u0301",
    "\u2003x\u00a0",
    "ß",
    "ﬁ",
    "İ",
    "ΑΣ",
    "Ǆ",
    "\x1ca\x1c",
    "\x85A\x85",
    "a" * 200 + "É",
]
TEXTS = st.lists(
    st.none() | st.sampled_from(WORDS) | st.text(st.characters(exclude_categories=["Cs"]), max_size=12), max_size=20
)


@settings(max_examples=200, deadline=None)
@given(MARKS, TEXTS, st.integers(0, 4))
@example(Text("\x00", True, "lower", "NFC"), WORDS, 1)
def test_a_column_is_cleaned_as_each_text_and_as_the_reference_does(
    mark: Text, texts: list[str | None], start: int
) -> None:
    column = pa.array(texts, pa.string()).slice(min(start, len(texts)))
    found = cleaned(column, mark)
    found.validate(full=True)
    assert found.to_pylist() == [None if t is None else clean(t, mark) for t in column.to_pylist()]
    assert found.to_pylist() == [None if t is None else plainly(t, mark) for t in column.to_pylist()]


def test_the_order_is_strip_then_form_then_case_then_trim() -> None:
    assert clean("-\u00a0ﬁ-", Text(strip="-", trim=True, case="upper", form="NFKC")) == "FI"
    assert clean("e-\u0301", Text(strip="-", form="NFC")) == "é", "form sees what strip has left"
    assert clean("\u00b5", Text(case="upper", form="NFKC")) == "\u039c"


@pytest.mark.parametrize(
    ("given_arguments", "words"),
    [
        ({}, "changes nothing"),
        ({"case": "title"}, "allowed are"),
        ({"form": "nfc"}, "allowed are"),
        ({"trim": 1}, "allowed are"),
        ({"strip": "\ud800"}, "allowed are"),
    ],
)
def test_a_mark_that_cannot_be_is_refused(given_arguments: dict[str, object], words: str) -> None:
    with pytest.raises(DefinitionError, match=words):
        Text(**given_arguments)  # type: ignore[arg-type]
