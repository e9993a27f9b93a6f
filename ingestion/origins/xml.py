"""XML: an element that is repeated, each a row; attributes, texts and what is nested are columns, named by their paths.

    <row id="1"><to lang="de"><city>Ulm</city></to></row>        =  "@id": "1", "to.@lang": "de", "to.city": "Ulm"

An element that stands several times is "tag[0]", "tag[1]". Document types, and so entities of a file's own, are refused: nothing is
expanded, nothing is fetched.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from ingestion.origin import FLATTENED, Reading, Rows
from ingestion.origins.format import FileFormat, Input, Stream, check_columns, need
from pipeline.base.errors import DefinitionError, OriginError
from pipeline.definition.paths import Path, shown

STRETCH_ROWS, STRETCH_TEXTS = 5_000, 200_000
MOST_NODES = 100_000  # of one row
BLOCK_BYTES = 256 * 1024
DOCTYPE = re.compile(rb"<!DOCTYPE", re.IGNORECASE)
Name = tuple[str | None, str]  # the namespace, None for any, and the name in it


@dataclass(frozen=True, init=False)
class Xml(FileFormat):
    """Rows that are elements: Xml(element="planes/plane"), or Xml(element="p:plane", namespaces={"p": "urn:planes"}).

    `element` is the end of the path from the root: any such element is a row, but one inside of a row. A name without a prefix is that in
    any namespace. All values are text, without the blanks around. The usual mistake: At("to") where the text is in <to><city>; that is
    At("to.city").
    """

    element: str
    namespaces: tuple[tuple[str, str], ...]
    textual: ClassVar[bool] = True

    def __init__(self, element: str, namespaces: Mapping[str, str] | None = None) -> None:
        known = dict(namespaces or {})
        object.__setattr__(self, "element", element)
        object.__setattr__(self, "namespaces", tuple(sorted(known.items())))
        parts = element.strip("/").split("/") if isinstance(element, str) else [""]
        for part in parts:
            prefix, colon, name = part.rpartition(":")
            if not re.fullmatch(r"[^\s<>@\[\]*{}]+", name) or (colon and prefix not in known):
                raise DefinitionError(
                    f"Xml(element={element!r}): allowed is a path of names as 'planes/plane', their prefixes given as namespaces="
                )

    def rows(self, given: Input, reading: Reading) -> Iterator[Rows]:
        etree = need("lxml.etree", "Xml()")
        number, held, texts = 1, list[dict[str, str]](), 0
        try:
            for found in self._elements(etree, given.stream):
                held.append(found)
                texts += len(found)
                if len(held) >= STRETCH_ROWS or texts >= STRETCH_TEXTS:
                    yield _rows(held, number)
                    number, held, texts = number + len(held), [], 0
        except etree.XMLSyntaxError as error:
            raise OriginError(f"broken XML behind element {number + len(held) - 1:,}: {error.msg}") from None
        if held:
            yield _rows(held, number)
        elif number == 1:
            reading.report(f"{given.name}: there is no element {self.element}")

    def _elements(self, etree: Any, stream: Stream) -> Iterator[dict[str, str]]:
        options = {"resolve_entities": False, "load_dtd": False, "no_network": True, "huge_tree": False}
        parser = etree.XMLPullParser(("start", "end"), remove_comments=True, remove_pis=True, **options)
        wanted, open_names, row, nodes, first = self._wanted(), list[Name](), None, 0, True
        while block := stream.read(BLOCK_BYTES):
            if first and DOCTYPE.search(block.replace(b"\0", b"")[:BLOCK_BYTES]):
                raise _doctype()
            parser.feed(block)
            for event, element in parser.read_events():
                if first:
                    if element.getroottree().docinfo.doctype:
                        raise _doctype()
                    first = False
                if event == "start":
                    open_names.append(_name(etree, element))
                    nodes += 1
                    if row is None and _ends_with(open_names, wanted):
                        row, nodes = element, 0
                    if row is not None and nodes > MOST_NODES:
                        raise OriginError(f"one element {self.element} has more than {MOST_NODES:,} others inside")
                    continue
                open_names.pop()
                if element is row:
                    found: dict[str, str] = {}
                    _flatten(etree, element, (), found)
                    row = None
                    yield found
                if row is None:
                    _let_go(element)
        parser.close()

    def _wanted(self) -> list[Name]:
        known = dict(self.namespaces)
        parts = [part.rpartition(":") for part in self.element.strip("/").split("/")]
        return [(known[prefix] if colon else None, name) for prefix, colon, name in parts]


def _doctype() -> OriginError:
    return OriginError(
        "it has a document type (<!DOCTYPE ...>), which may define entities: such files are refused; take it out"
    )


def _name(etree: Any, element: Any) -> Name:
    name = etree.QName(element)
    return name.namespace, name.localname


def _ends_with(names: list[Name], wanted: list[Name]) -> bool:
    if len(names) < len(wanted):
        return False
    ends = names[len(names) - len(wanted) :]
    return all(have[1] == due[1] and due[0] in (None, have[0]) for have, due in zip(ends, wanted, strict=True))


def _let_go(element: Any) -> None:
    """Forget an element that is dealt with, and those before it."""
    element.clear()
    parent = element.getparent()
    while parent is not None and element.getprevious() is not None:
        del parent[0]


def _flatten(etree: Any, element: Any, path: Path, found: dict[str, str]) -> None:
    for name, value in element.attrib.items():
        found[shown((*path, f"@{etree.QName(name).localname}"))] = value.strip()
    children = [child for child in element if isinstance(child.tag, str)]
    text = "".join(
        element.itertext() if not children else [element.text or "", *(c.tail or "" for c in children)]
    ).strip()
    if not children:
        found[shown(path or ("#text",))] = text
        return
    if text:
        found[shown((*path, "#text"))] = text
    names = [etree.QName(child).localname for child in children]
    many: dict[str, int] = {}
    for name, child in zip(names, children, strict=True):
        place = many[name] = many.get(name, -1) + 1
        _flatten(etree, child, (*path, name, place) if names.count(name) > 1 else (*path, name), found)


def _rows(held: list[dict[str, str]], number: int) -> Rows:
    names = list(dict.fromkeys(name for row in held for name in row))
    check_columns(len(names))
    arrays = [pa.array([row.get(name) for row in held], pa.string()) for name in names]
    schema = pa.schema([pa.field(name, pa.string()) for name in names]).with_metadata({**FLATTENED})
    batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
    return Rows(batch, np.arange(number, number + len(held)), unit="element")


__all__ = ["Xml"]
