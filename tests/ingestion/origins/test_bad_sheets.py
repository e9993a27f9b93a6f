"""Whatever is wrong in XML and in sheets is an error that names the file, or a row that is broken or rejected with its place."""

from __future__ import annotations

import datetime as dt
import io
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import openpyxl
import pytest
from openpyxl.utils.datetime import MAC_EPOCH

from ingestion.origins.excel import Excel
from ingestion.origins.files import Files
from ingestion.origins.xml import Xml
from pipeline import At, Zone
from tests.support.reading import broken_of, numbers_of, reading, refused, rows_of, typed_of

# --- XML ----------------------------------------------------------------------------------------------------------------------

BOMB = '<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "lol">' + "".join(
    f'<!ENTITY a{n} "{f"&a{n - 1 if n > 1 else str()};" * 10}">' for n in range(1, 10)
)


@pytest.mark.parametrize(
    "text",
    [
        BOMB + "]><r><row>&a9;</row></r>",
        '<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><r><row>&x;</row></r>',
        "<!doctype html><r><row/></r>",
        "<!--" + "x" * 2_000_000 + '--><!DOCTYPE r [<!ENTITY x "y">]><r><row>&x;</row></r>',
    ],
    ids=["bomb", "file", "html", "late"],
)
def test_entities_are_refused(file: Callable[..., str], text: str) -> None:
    refused(
        Files(file("x.xml", text), Xml(element="row")),
        r"x\.xml: it has a document type .*such files are refused; take it out",
    )


def test_elements_attributes_and_namespaces_are_columns(file: Callable[..., str]) -> None:
    path = file(
        "x.xml",
        '<p:r xmlns:p="urn:p" xmlns:q="urn:q"><p:row id="1"> a <to lang="de"><city>Ulm</city></to><t>1</t><t>2</t></p:row>'
        "<q:row><x/></q:row><p:row><to>all</to><t>3</t><p:row><t>inside</t></p:row></p:row></p:r>",
    )
    first, *others = rows_of(Files(path, Xml(element="row")))
    assert {k: v for k, v in first.items() if v is not None} == {
        "@id": "1",
        "#text": "a",
        "to.@lang": "de",
        "to.city": "Ulm",
        "t[0]": "1",
        "t[1]": "2",
    }
    assert len(others) == 2
    rows = rows_of(Files(path, Xml(element="n:row", namespaces={"n": "urn:p"})))
    assert [{k: v for k, v in row.items() if v is not None} for row in rows[1:]] == [
        {"to": "all", "t": "3", "row.t": "inside"}
    ]

    @dataclass(frozen=True)
    class Row:
        city: Annotated[str | None, At("to.city")]
        t: int | None

    (out,) = typed_of(Files(path, Xml(element="n:row", namespaces={"n": "urn:p"})), Row)
    assert out.rejected.numbers.tolist() == [1, 2] and not out.accepted.num_rows
    assert out.rejected.reasons == [
        "t: an array where an int is declared",
        "city: text at to where an object is declared",
    ]


def test_half_an_xml_is_an_error_and_none_is_reported(file: Callable[..., str]) -> None:
    refused(Files(file("x.xml", "<r><row>1</row><row>"), Xml(element="row")), "broken XML behind element 1")
    refused(Files(file("x.xml", ""), Xml(element="row")), "broken XML")
    said: list[str] = []
    assert rows_of(Files(file("x.xml", "<r/>"), Xml(element="row")), reading(said)) == []
    assert "no element row" in said[0]


def test_an_element_of_a_million_others_is_an_error(file: Callable[..., str]) -> None:
    refused(
        Files(file("x.xml", "<r><row>" + "<a/>" * 150_000 + "</row></r>"), Xml(element="row")),
        "more than 100,000 others",
    )
    names = "".join(f"<a{n}/>" for n in range(20_000))
    refused(Files(file("x.xml", f"<r><row>{names}</row></r>"), Xml(element="row")), "20,000 columns")


# --- sheets --------------------------------------------------------------------------------------------------------------------


def sheet(*rows: list[Any], change: Callable[[Any], None] | None = None, epoch: Any = None) -> bytes:
    book = openpyxl.Workbook()
    if epoch:
        book.epoch = epoch
    for row in rows:
        book.active.append(row)
    if change:
        change(book)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


@dataclass(frozen=True)
class Mixed:
    a: int
    b: str
    c: dt.date | None
    d: Annotated[dt.datetime | None, Zone("UTC")]


def test_mixed_cells_are_texts_and_each_row_is_judged_by_itself(file: Callable[..., str]) -> None:
    day, noon = dt.date(2013, 1, 2), dt.datetime(2013, 1, 2, 12)  # noqa: DTZ001 -- a sheet has no zones
    rows = [
        [1, 1234, day, noon],
        ["1", "0012", None, None],
        ["one", 1.5, day, day],
        [2.0, True, "2.1.2013", noon],
        [3.5, "x", None, None],
    ]
    for epoch in (None, MAC_EPOCH):
        path = file("x.xlsx", sheet(["a", "b", "c", "d"], *rows, epoch=epoch))
        (out,) = typed_of(Files(path), Mixed)
        noons = noon.replace(tzinfo=dt.UTC)
        assert out.accepted.to_pylist() == [
            {"a": 1, "b": "1234", "c": day, "d": noons},
            {"a": 1, "b": "0012", "c": None, "d": None},
        ]
        assert out.numbers.tolist() == [2, 3] and out.rejected.numbers.tolist() == [4, 5, 6]
        assert (
            out.rejected.reasons[0] == "a: text where an int is declared"
            and out.rejected.reasons[2] == "a: 3.5 is not whole"
        )


def test_numbers_of_days_count_from_the_first_day_that_the_workbook_says(file: Callable[..., str]) -> None:
    """One sheet, in two workbooks that differ in nothing but date1904: day 41275, 41275.5, and 41275 in a cell that shows no date."""
    noon = dt.datetime(2013, 1, 1, 12)  # noqa: DTZ001 -- a sheet has no zones
    written = sheet(["c", "d", "n"], [dt.date(2013, 1, 1), noon, 41275])
    found = {}
    for flag in (b"0", b"1"):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive, zipfile.ZipFile(io.BytesIO(written)) as whole:
            for name in whole.namelist():
                data = whole.read(name)
                if name == "xl/workbook.xml":
                    data, changed = re.subn(rb"<workbookPr\b", b'<workbookPr date1904="' + flag + b'"', data)
                    assert changed == 1
                archive.writestr(name, data)
        (found[flag],) = rows_of(Files(file(f"{flag.decode()}.xlsx", out.getvalue())))
    assert {text[:10] for text in (found[b"0"]["c"], found[b"0"]["d"])} == {"2013-01-01"}
    assert found[b"1"]["c"][:10] == "2017-01-02" and found[b"1"]["d"] == "2017-01-02T12:00:00"
    assert found[b"0"]["n"] == found[b"1"]["n"] == "41275", "no date without a date's format"


def test_merged_cells_are_reported_and_empty_rows_are_none(file: Callable[..., str]) -> None:
    data = sheet(["a", "b"], ["x", 1], [None, 2], [], ["y", 3], change=lambda book: book.active.merge_cells("A2:A3"))
    said: list[str] = []
    origin = Files(file("x.xlsx", data))
    assert rows_of(origin, reading(said)) == [{"a": "x", "b": "1"}, {"a": None, "b": "2"}, {"a": "y", "b": "3"}]
    assert "merged cells (A2:A3)" in said[0] and numbers_of(origin) == [2, 3, 5]


def test_formulas_give_their_values_and_errors_break_their_rows(file: Callable[..., str]) -> None:
    def change(book: Any) -> None:
        book.active["A3"] = "=A2+1"
        book.active["A4"] = "#N/A"
        book.active["A4"].data_type = "e"

    computed = sheet(["a"], [1], [0], [0], [5], change=change)
    path = file("x.xlsx", computed)
    broken = broken_of(Files(path))
    assert [b[0] for b in broken] == [3, 4] and numbers_of(Files(path)) == [2, 5]
    assert (
        "cell A3 has a formula whose value was never computed" in broken[0][1]
        and "cell A4 holds the error #N/A" in broken[1][1]
    )
    inside = zipfile.ZipFile(io.BytesIO(computed))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in inside.namelist():
            data = inside.read(name)
            archive.writestr(
                name, re.sub(rb"(<f>A2\+1</f>)<v\s*/>|(<f>A2\+1</f>)<v></v>", rb"<f>A2+1</f><v>2</v>", data)
            )
    assert rows_of(Files(file("x.xlsx", out.getvalue()))) == [{"a": "1"}, {"a": "2"}, {"a": "5"}]


def test_a_range_a_sheet_and_a_row_of_names(file: Callable[..., str]) -> None:
    def change(book: Any) -> None:
        other = book.create_sheet("2013")
        for number, row in enumerate(
            [["title"], [], [None, "a", "b"], [None, 1, 2], [None, 3, 4], [None, "sum", 6]], 1
        ):
            for place, cell in enumerate(row, 1):
                other.cell(number, place, cell)
        away = book.create_sheet("away")
        away["C3"], away["D3"], away["C4"], away["D4"] = "a", "b", 1, 2

    path = file("x.xlsx", sheet(["x"], change=change))
    assert rows_of(Files(path, Excel(sheet="2013", range="B3:C5"))) == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]
    assert numbers_of(Files(path, Excel(sheet="2013", range="B3:C5"))) == [4, 5]
    assert rows_of(Files(path, Excel(sheet="2013", range="B:C", header_row=3)))[0] == {"a": "1", "b": "2"}
    assert rows_of(Files(path, Excel(sheet="2013", range="B4:C5", header_row=None)))[1] == {"B": "3", "C": "4"}
    assert rows_of(Files(path, Excel(sheet="away", range="C3:D9"))) == [{"a": "1", "b": "2"}]
    assert numbers_of(Files(path, Excel(sheet="away", header_row=3))) == [4]
    refused(Files(path, Excel(sheet="2014")), "no sheet '2014'; there are Sheet, 2013, away")
    refused(Files(path, Excel(header_row=9)), "row 9 of sheet Sheet, where the names are due, is empty or not there")


ODS = """<?xml version="1.0"?><office:document-content xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0"
 xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0" xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0"
 office:version="1.2"><office:body><office:spreadsheet><table:table table:name="S">{}</table:table></office:spreadsheet></office:body>
</office:document-content>"""


def ods(*rows: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr(
            "content.xml", ODS.format("".join(f"<table:table-row>{row}</table:table-row>" for row in rows))
        )
        archive.writestr("META-INF/manifest.xml", "<manifest/>")
    return out.getvalue()


def test_a_sheet_of_open_document_is_read(file: Callable[..., str]) -> None:
    cell = '<table:table-cell office:value-type="{}" {}><text:p>{}</text:p></table:table-cell>'
    names = "".join(cell.format("string", "", name) for name in ("a", "b"))
    row = cell.format("float", 'office:value="12"', "12") + cell.format(
        "date", 'office:date-value="2013-01-02"', "2.1."
    )
    assert rows_of(Files(file("x.ods", ods(names, row)))) == [{"a": "12", "b": "2013-01-02"}]


def test_a_sheet_that_is_a_bomb_breaks_its_reader_and_not_us(file: Callable[..., str]) -> None:
    def change(book: Any) -> None:
        book.active["XFD1048576"] = 1

    refused(
        Files(file("x.xlsx", sheet(["a"], change=change))),
        "it cannot be read within 2 GiB of memory .*; save the sheet as CSV",
    )
    zeros = io.BytesIO()
    with (
        zipfile.ZipFile(zeros, "w", zipfile.ZIP_DEFLATED) as archive,
        zipfile.ZipFile(io.BytesIO(sheet(["a"]))) as whole,
    ):
        for name in whole.namelist():
            archive.writestr(name, whole.read(name) if "sheet1" not in name else b"<a>" + b" " * (200 << 20))
    refused(
        Files(file("x.xlsx", zeros.getvalue())), "row 1 of sheet Sheet, where the names are due, is empty or not there"
    )
    refused(Files(file("x.xlsx", b"PK no zip")), "no sheet that can be read")
