"""A table of HTML as rows: its cells on a grid, those that span several places in each of them.

row r, column c = the text of the cell that covers (r, c)        every row has as many cells as the header, or is broken
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ingestion.objects import Lost
from pipeline.base.errors import OriginError

MOST_COLUMNS = 10_000
SPANS = {"colspan": 1000, "rowspan": 65_534}  # the most that HTML itself allows


def records(table: Any, url: str, report: Callable[[str], None]) -> Iterator[dict[str, str | None] | Lost]:
    """The rows below the header, by its names; a row with fewer or more cells is Lost. OriginError where there is no header."""
    head, body, foot = _sections(table)
    if not head:
        head, body = body[:1], body[1:]
    names = _names(list(_grid(head, url)))
    if not names:
        raise OriginError(f"the table on {url} has no row: has the page changed, or is it filled by a script?")
    if foot:
        report(f"the table on {url} has a foot of {len(foot)} rows, which is left out")
    for cells in _grid(body, url):
        if len(cells) == len(names):
            yield dict(zip(names, cells, strict=True))
        else:
            text = " | ".join(cell or "" for cell in cells)
            yield Lost(f"has {len(cells)} cells, where the header has {len(names)}", text)


def cell_text(node: Any) -> str | None:
    """The text of an element, each stretch of white space one space; None where it has none."""
    for one in node.css("br"):
        one.replace_with(" ")
    return " ".join(node.text().split()) or None


def _sections(table: Any) -> tuple[list[Any], list[Any], list[Any]]:
    """The rows of the head, the body and the foot; those of tables within its cells are not among them."""
    found: dict[str, list[Any]] = {"thead": [], "tbody": [], "tfoot": []}
    for part in table.iter():
        if part.tag == "tr":
            found["tbody"].append(part)
        elif part.tag in found:
            found[part.tag] += [row for row in part.iter() if row.tag == "tr"]
    return found["thead"], found["tbody"], found["tfoot"]


def _grid(rows: list[Any], url: str) -> Iterator[list[str | None]]:
    """The texts of each row, by column; cells that reach down from rows above stand in theirs."""
    above: dict[int, tuple[int, str | None]] = {}  # column -> (rows still to cover, text)
    for row in rows:
        cells: dict[int, str | None] = {}
        below: dict[int, tuple[int, str | None]] = {}
        for column, (left, text) in above.items():
            cells[column] = text
            if left > 1:
                below[column] = (left - 1, text)
        column = 0
        for cell in row.iter():
            if cell.tag not in ("td", "th"):
                continue
            while column in above:
                column += 1
            text, wide, high = cell_text(cell), _span(cell, "colspan"), _span(cell, "rowspan")
            if column + wide > MOST_COLUMNS:
                raise OriginError(f"the table on {url} has more than {MOST_COLUMNS} columns")
            for place in range(column, column + wide):
                cells[place] = text
                if high > 1:
                    below[place] = (high - 1, text)
            column += wide
        above = below
        if cells:
            yield [cells.get(place) for place in range(max(cells) + 1)]


def _span(cell: Any, name: str) -> int:
    given = (cell.attributes.get(name) or "1").strip()
    return max(1, min(int(given), SPANS[name])) if given.isascii() and given.isdigit() else 1


def _names(header: list[list[str | None]]) -> list[str]:
    """A name for each column: the different texts above it, from the top; `column_3` where there is none, `name_2` the second time."""
    names: list[str] = []
    for column in range(max(map(len, header), default=0)):
        texts = dict.fromkeys(row[column] for row in header if column < len(row) and row[column])
        name = " ".join(map(str, texts)) or f"column_{column + 1}"
        once, times = name, 1
        while name in names:
            times += 1
            name = f"{once}_{times}"
        names.append(name)
    return names
