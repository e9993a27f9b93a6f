"""Rows of an origin as JSON events, so that the layers' own decoder types and judges them exactly as it does events.

    encode(rows, columns) = encode_slowly(rows, columns), as JSON: one object a row, with what each column's path names, and nothing else

A column is looked for under the first name of its path, and inside of it when it is nested; a flat origin may also have it under the
whole path as At takes it: "address.city". What an origin does not have is not written, and so is null.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute

from ingestion.json_tokens import by_python, dumped, joined, tokens
from ingestion.origin import Rows
from pipeline.base.errors import OriginError
from pipeline.definition.paths import Node, Path, shown, tree
from pipeline.definition.record import Column, in_event

pc: Any = pyarrow.compute  # whose stubs take fewer types than it does
MOST_PLACES = 10_000  # of an array that is put together from flat columns
NULL = pa.scalar(b"null", pa.binary())


def encode(rows: Rows, columns: Sequence[Column], textual: bool = False) -> pa.Array:
    """One JSON object (binary) for each of rows.batch; `textual` as the origin has it. The numbers and broken rows stay with `rows`.

    OriginError where the origin has a declared column twice. Rows that are documents already are given back as they are.
    """
    if rows.documents is not None:
        return rows.documents
    encoder = _Encoder(rows, in_event(columns), textual)
    found = encoder.object((), tree({column.name: column.path for column in encoder.columns}))
    if found is None or not rows.batch.num_rows:
        return pa.array([b"{}"] * rows.batch.num_rows, pa.binary())
    return found


class _Encoder:
    """The columns of one batch, by name, on the way to tokens."""

    def __init__(self, rows: Rows, columns: Sequence[Column], textual: bool) -> None:
        self.columns, self.textual, self._flattened = columns, textual, rows.flattened
        batch = rows.batch
        self._arrays: dict[str, list[pa.Array]] = {}
        for name, array in zip(batch.schema.names, batch.columns, strict=True):
            self._arrays.setdefault(name, []).append(array)

    def object(self, path: Path, node: Node) -> pa.Array | None:
        """The tokens of what lies below a path, put together from the origin's columns; None where it has none of them."""
        found = {part: self._at((*path, part), child) for part, child in node.children.items()}
        there = {part: token for part, token in found.items() if token is not None}
        if not there:
            return None
        if node.is_array:
            places = [part for part in there if isinstance(part, int)]
            if max(places) >= MOST_PLACES:
                raise OriginError(f"{shown(path)} is an array with a place above {MOST_PLACES}")
            none = pa.nulls(len(there[places[0]]), pa.binary())
            return _bracketed([there.get(place, none) for place in range(max(places) + 1)])
        return _braced({str(part): token for part, token in there.items()})

    def _at(self, path: Path, child: Node | int) -> pa.Array | None:
        array = self._named(str(path[0])) if len(path) == 1 else None
        if array is None:
            array = self._named(shown(path))
        if array is not None:
            found: pa.Array | None = self._of(array, child)
        else:
            found = self.object(path, child) if isinstance(child, Node) else None
        return self._or_other(path, child, found) if self._flattened else found

    def _or_other(self, path: Path, child: Node | int, found: pa.Array | None) -> pa.Array | None:
        """The tokens, and an array or an object where an element is repeated, or has others inside, that is declared not to."""
        whole = shown(path)
        if not (isinstance(child, Node) and child.is_array):
            found = self._where((f"{whole}[0]",), b"[]", found, over=True)
        if isinstance(child, int):
            found = self._where((f"{whole}.",), b"{}", found, over=False)
        return found

    def _where(self, beginnings: tuple[str, ...], token: bytes, found: pa.Array | None, over: bool) -> pa.Array | None:
        """The tokens, and that one where a column with such a name has a value: over those there are, or where there is none."""
        own = [array for name, arrays in self._arrays.items() if name.startswith(beginnings) for array in arrays]
        if not own:
            return found
        there = own[0].is_valid()
        for array in own[1:]:
            there = pc.or_(there, array.is_valid())
        found = pa.nulls(len(there), pa.binary()) if found is None else found
        there = there if over else pc.and_(there, pc.invert(found.is_valid()))
        replaced: pa.Array = pc.if_else(there, pa.scalar(token, pa.binary()), found)
        return replaced

    def _of(self, array: pa.Array, child: Node | int) -> pa.Array:
        """The tokens of a column that the origin has, or of the declared ones inside of it."""
        if isinstance(child, int):
            return tokens(array, self.columns[child], self.textual)
        if not pa.types.is_struct(array.type) or child.is_array:
            return by_python(array)
        have = [field.name for field in array.type]
        inner = {
            str(part): self._of(pc.struct_field(array, [have.index(str(part))]), grandchild)
            for part, grandchild in child.children.items()
            if have.count(str(part)) == 1
        }
        whole = _braced(inner) if inner else pa.array([b"{}"] * len(array), pa.binary())
        return pc.if_else(array.is_valid(), whole, pa.scalar(None, pa.binary())) if array.null_count else whole

    def _named(self, name: str) -> pa.Array | None:
        found = self._arrays.get(name, [])
        if len(found) > 1:
            raise OriginError(f"the origin has {len(found)} columns {name!r}; name its columns, so that one is meant")
        return found[0] if found else None


def _braced(members: Mapping[str, pa.Array]) -> pa.Array:
    parts: list[pa.Array | bytes] = []
    for number, (name, token) in enumerate(members.items()):
        parts += [(b"," if number else b"{") + dumped(name) + b":", _or_null(token)]
    return joined(*parts, b"}")


def _bracketed(elements: Sequence[pa.Array]) -> pa.Array:
    parts: list[pa.Array | bytes] = []
    for number, token in enumerate(elements):
        parts += [b"," if number else b"[", _or_null(token)]
    return joined(*parts, b"]")


def _or_null(token: pa.Array) -> Any:
    return token.fill_null(NULL) if token.null_count else token


__all__ = ["encode"]
