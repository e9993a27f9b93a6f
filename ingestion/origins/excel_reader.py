"""Reader of a sheet in a process of its own, with a limit of memory: a file may be made to take all there is.

    stdin: {"path", "sheet", "range"}        stdout: {"sheet", "merged", "broken"} on a line, then lines of [[row's number, [texts]], ...],
    the last of them empty

Run as a script. A cell is text as a person reads it: a whole number without a point, a time as ISO 8601, "true" or "false", null where
it is empty.
"""

import html
import json
import re
import resource
import sys
import zipfile
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

MEMORY_BYTES, CPU_S = 2 * 1024**3, 900
ROWS_AT_ONCE, MOST_WIDTH = 500, 16_384
BROKEN_AT_MOST = 100_000
CELL = re.compile(rb"<(?:\w+:)?c\s([^>]*?)(?:/>|>(.*?)</(?:\w+:)?c>)", re.DOTALL)
ATTRIBUTE = re.compile(r'([\w:]+)\s*=\s*"([^"]*)"')
VALUE = re.compile(rb"<(?:\w+:)?v[^>]*>([^<]+)</")


def main() -> None:
    """Answer one question."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    asked = json.load(sys.stdin)
    try:
        answer(asked)
    except MemoryError:
        say({"error": f"it needs more than {MEMORY_BYTES >> 30} GiB of memory to be read"})
    except Exception as error:  # of calamine's many, each with its words
        say({"error": " ".join(str(error).split()) or type(error).__name__})


def answer(asked: dict[str, Any]) -> None:
    """Say what sheet it is, and then its rows."""
    import python_calamine

    book = python_calamine.load_workbook(asked["path"])
    name = asked["sheet"] if asked["sheet"] is not None else book.sheet_names[0] if book.sheet_names else ""
    if name not in book.sheet_names:
        say({"error": f"there is no sheet {name!r}; there are {', '.join(book.sheet_names)}"})
        return
    broken = dict(unreadable(asked["path"], name)) if asked["path"].endswith((".xlsx", ".xlsm")) else {}
    sheet = book.get_sheet_by_name(name)
    merged = [[*first, *last] for first, last in sheet.merged_cell_ranges or []]
    say({"sheet": name, "merged": merged[:100], "broken": sorted(broken.items())})
    held = []
    (top, left), (bottom, right) = asked["range"]
    for number, row in enumerate(rows_from_the_top(sheet), 1):
        if number > bottom:
            break
        if number < top:
            continue
        cells = [text_of(cell) for cell in row[left - 1 : right]]
        if number in broken or any(cell is not None for cell in cells):
            held.append([number, cells])
        if len(held) == ROWS_AT_ONCE:
            say(held)
            held = []
    if held:
        say(held)
    say([])


def rows_from_the_top(sheet: Any) -> Iterator[list[Any]]:
    """The rows from A1 on, whatever the first cell is that has something."""
    if sheet.start is None:
        return
    top, left = sheet.start
    rows = sheet.iter_rows()
    inside = sheet.to_python(skip_empty_area=True, nrows=1)
    first_row = next(rows, None)
    if first_row is None:
        return
    shifted = top > 0 and inside and [*first_row] == [*inside[0]] and len(first_row) == sheet.width
    for _ in range(top if shifted else 0):
        yield []
    pad = [""] * left if len(first_row) == sheet.width and left else []
    yield pad + first_row
    for row in rows:
        yield pad + row


def text_of(cell: Any) -> str | None:
    """The text of a cell, None of an empty one."""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() and abs(cell) < 1e15 else repr(cell)
    if isinstance(cell, timedelta):
        seconds = round(cell.total_seconds())
        return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    if isinstance(cell, datetime) or hasattr(cell, "isoformat"):
        return str(cell.isoformat())
    return str(cell) if cell is not None and cell != "" else None


def unreadable(path: str, sheet: str) -> Iterator[tuple[int, str]]:
    """(row, reason) of cells that hold an error, or a formula whose value no program has computed yet: calamine gives nothing for these."""
    with zipfile.ZipFile(path) as book:
        place = _part_of(book, sheet)
        if place is None:
            return
        found = 0
        with book.open(place) as stream:
            held = b""
            while block := stream.read(1 << 20):
                held += block
                at = 0
                for cell in CELL.finditer(held):
                    at = cell.end()
                    attributes = dict(ATTRIBUTE.findall(cell[1].decode("utf-8", "replace")))
                    inner = cell[2] or b""
                    value = VALUE.search(inner)
                    where = attributes.get("r", "")
                    row = int(re.sub(r"\D", "", where) or 0)
                    if attributes.get("t") == "e":
                        yield (
                            row,
                            f"cell {where} holds the error {value[1].decode('utf-8', 'replace') if value else ''}",
                        )
                    elif b"<f" in inner and value is None and attributes.get("t") != "str":
                        yield (
                            row,
                            f"cell {where} has a formula whose value was never computed: open and save it in a spreadsheet program",
                        )
                    else:
                        continue
                    found += 1
                    if found > BROKEN_AT_MOST:
                        raise ValueError(
                            f"more than {BROKEN_AT_MOST:,} cells of it hold errors, or formulas that were never computed"
                        )
                held = held[max(at, held.rfind(b"<", 0, len(held)) if len(held) > (1 << 24) else at) :]


def _part_of(book: zipfile.ZipFile, sheet: str) -> str | None:
    workbook = book.read("xl/workbook.xml").decode("utf-8", "replace")
    relations = book.read("xl/_rels/workbook.xml.rels").decode("utf-8", "replace")
    named = [dict(ATTRIBUTE.findall(tag)) for tag in re.findall(r"<(?:\w+:)?sheet\s[^>]*>", workbook)]
    ids = [
        value
        for one in named
        if html.unescape(one.get("name", "")) == sheet
        for key, value in one.items()
        if key.endswith(":id")
    ]
    targets = [dict(ATTRIBUTE.findall(tag)) for tag in re.findall(r"<Relationship\s[^>]*>", relations)]
    target = next((one["Target"] for one in targets if ids and one.get("Id") == ids[0]), None)
    return None if target is None else target.removeprefix("/") if target.startswith("/") else f"xl/{target}"


def say(line: Any) -> None:
    """One line of JSON."""
    sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
