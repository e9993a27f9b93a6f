"""Texts as a Text mark leaves them: characters taken out, then the Unicode form, then the case, then no blanks around.

cleaned(texts, mark)[i] = clean(texts[i], mark)        compiled where a text is ASCII; once for each distinct text where it is not
"""

import unicodedata
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.columns.arrays import text_buffers
from pipeline.definition.marks import BLANKS, Text
from pipeline.kernels import ascii as kernels

KNOWN, KNOWN_CHARACTERS = 100_000, 100  # texts that are remembered, and how long they are at most


def clean(text: str, mark: Text) -> str:
    """One text."""
    for character in mark.strip:
        text = text.replace(character, "")
    if mark.form:
        text = unicodedata.normalize(mark.form, text)  # type: ignore[arg-type]
    if mark.case:
        text = text.lower() if mark.case == "lower" else text.upper()
    return text.strip(BLANKS) if mark.trim else text


class _Known(dict[str, str]):
    """Text -> what it becomes; one that was cleaned before is looked up."""

    def __init__(self, mark: Text) -> None:
        self._mark = mark

    def __missing__(self, text: str) -> str:
        found = clean(text, self._mark)
        if len(text) <= KNOWN_CHARACTERS:
            if len(self) >= KNOWN:
                self.clear()
            self[text] = found
        return found


_known = cache(_Known)


def cleaned(texts: pa.Array, mark: Text) -> pa.Array:
    """A string array; null stays null."""
    if not len(texts):
        return texts
    offsets, data = text_buffers(texts)
    dropped = np.zeros(128, np.uint8)
    dropped[[ord(c) for c in mark.strip if c.isascii()]] = 1
    case = {None: kernels.KEEP, "lower": kernels.LOWER, "upper": kernels.UPPER}[mark.case]
    ends: Any
    out: Any
    ends, out, ascii = kernels.clean_ascii(offsets, data, dropped, case, int(mark.trim))
    found: Any = pa.Array.from_buffers(pa.string(), len(texts), [None, pa.py_buffer(ends), pa.py_buffer(out)])
    if not ascii.all():
        others = np.flatnonzero(ascii == 0)
        encoded: Any = texts.take(pa.array(others, pa.int64())).dictionary_encode()
        distinct: list[Any] = encoded.dictionary.to_pylist()
        mended = pa.array([*map(_known(mark).__getitem__, distinct)], pa.string()).take(encoded.indices)
        found = pc.replace_with_mask(found, pa.array(ascii == 0), mended)
    if texts.null_count:
        found = pc.if_else(texts.is_valid(), found, pa.scalar(None, pa.string()))
    result: pa.Array = found
    return result


__all__ = ["clean", "cleaned"]
