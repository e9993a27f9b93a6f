"""Whatever is wrong in a file is an error that names it, or a broken row with its place; the rows around are read, and nothing hangs."""

from __future__ import annotations

import bz2
import datetime as dt
import gzip
import io
import json
import lzma
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from openpyxl.utils.datetime import MAC_EPOCH

from ingestion.origin import Rows
from ingestion.origins.csv import Csv
from ingestion.origins.excel import Excel
from ingestion.origins.files import Files
from ingestion.origins.fixed_width import FixedWidth
from ingestion.origins.format import FileFormat
from ingestion.origins.json import JsonArray, JsonLines
from ingestion.origins.xml import Xml
from pipeline import At, Zone
from pipeline.base.errors import OriginError, SettingsError
from tests.support.reading import broken_of, numbers_of, reading, records_of, rows_of, stretches, typed_of


@dataclass(frozen=True)
class Carrier:
    carrier: str
    name: str
    founded: int | None


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., str]:
    def made(name: str, data: bytes | str) -> str:
        path = tmp_path / name
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return str(path)

    return made


def refused(origin: Files, said: str) -> OriginError:
    """The error of reading it, which names the file."""
    with pytest.raises(OriginError, match=said) as caught:
        stretches(origin)
    assert str(Path(origin.pattern).name).partition(".")[0] in str(caught.value)
    return caught.value


# --- CSV ---------------------------------------------------------------------------------------------------------------------


def test_the_delimiter_and_the_encoding_are_found_and_reported(file: Callable[..., str]) -> None:
    text = "carrier;name;founded\nAB;Größe, Bär;1979\nXQ;a,b;\n"
    for encoding, shown in (
        ("utf-8", "utf-8"),
        ("utf-8-sig", "utf-8"),
        ("cp1252", "cp1252"),
        ("utf-16", "utf-16-le"),
        ("utf-16-be", "utf-16-be"),
        ("utf-32", "utf-32-le"),
    ):
        said: list[str] = []
        path = file("x.csv", text.encode(encoding))
        assert rows_of(Files(path), reading(said)) == [
            {"carrier": "AB", "name": "Größe, Bär", "founded": "1979"},
            {"carrier": "XQ", "name": "a,b", "founded": ""},
        ], encoding
        assert said == [f"{path}: delimiter ';', encoding {shown} found"]
    for sign in ",\t|":
        path = file("y.csv", text.replace(",", "").replace(";", sign))
        assert [row["carrier"] for row in rows_of(Files(path))] == ["AB", "XQ"]


def test_a_given_encoding_is_taken_and_a_wrong_one_is_an_error(file: Callable[..., str]) -> None:
    path = file("x.csv", "carrier,name\nLO,Łódź\n".encode("cp1250"))
    assert rows_of(Files(path, Csv(encoding="cp1250"))) == [{"carrier": "LO", "name": "Łódź"}]
    refused(Files(path, Csv(encoding="utf-16")), "not in the encoding utf-16.*give encoding=")


def test_a_wrong_delimiter_is_one_error_that_lists_the_columns(file: Callable[..., str]) -> None:
    path = file("x.csv", "carrier,name,founded\nUA,United,1926\n")
    with pytest.raises(
        OriginError, match=r"no column 'carrier', which Carrier\.carrier needs; there are carrier,name,founded"
    ):
        typed_of(Files(path, Csv(delimiter=";")), Carrier)


def test_ragged_rows_are_broken_with_their_lines_and_bytes(file: Callable[..., str]) -> None:
    path = file("x.csv", "carrier,name,founded\nUA,United,1926\nAA\n\nDL,Delta,1925,x\nB6,JetBlue,1999\n")
    assert numbers_of(Files(path)) == [2, 6]
    assert broken_of(Files(path)) == [
        (3, "1 field, where 3 are due", b"AA"),
        (5, "4 fields, where 3 are due", b"DL,Delta,1925,x"),
    ]
    (out,) = typed_of(Files(path), Carrier)
    assert out.accepted.num_rows == 2 and out.rejected.numbers.tolist() == [3, 5] and out.unit == "line"


def test_bytes_that_are_no_text_break_their_row_alone(file: Callable[..., str]) -> None:
    before = b"carrier,name\n" + b"UA,United\n" * 200_000
    path = file("x.csv", before + b"A\xffA,x\nDL,Delta\n")
    ((number, reason, raw),) = broken_of(Files(path))
    assert number == 200_002 and "not in UTF-8" in reason and raw == b"A\xffA,x"
    assert len(rows_of(Files(path))) == 200_001


QUOTES = [
    ('a,b\n1,"x\n2,y\n3,z\n', [3, 4], [(2, "a quote opens in this line, and never closes", b'1,"x')]),
    ('a,b\n1,"x"y\n2,y\n', [3], [(2, "a quote closes, and its field goes on behind it", b'1,"x"y')]),
    ('a,b\n1,"x\n2,y\n3,"z"\n4,w\n', [3, 4, 5], [(2, "a quote closes, and its field goes on behind it", b'1,"x')]),
    ('a,b\n1,x"y\n2,"p""q"\n', [2, 3], []),
    ('a,b\n"', [], [(2, "a quote opens in this line, and never closes", b'"')]),
]


@pytest.mark.parametrize(("text", "numbers", "broken"), QUOTES, ids=range(len(QUOTES)))
def test_a_quote_that_never_closes_costs_one_line(
    file: Callable[..., str], text: str, numbers: list[int], broken: list[Any]
) -> None:
    path = file("x.csv", text)
    assert (numbers_of(Files(path)), broken_of(Files(path))) == (numbers, broken)


def test_a_quote_that_never_closes_in_a_large_file_does_not_swallow_it(file: Callable[..., str]) -> None:
    path = file("x.csv", 'a,b\n1,"x\n' + "22222222,yyyyyyyyyy\n" * 1_500_000)
    assert [row[0] for row in broken_of(Files(path))] == [2]
    assert sum(rows.batch.num_rows for rows in stretches(Files(path))) == 1_500_000


def test_a_line_without_an_end_and_a_million_columns_are_errors(file: Callable[..., str]) -> None:
    refused(Files(file("x.csv", "a,b\n" + "x" * (17 << 20))), "line 2 has more than 16 MiB and does not end")
    refused(
        Files(file("x.csv", ",".join(f"c{n}" for n in range(1_000_000)) + "\n1\n")),
        "1,000,000 columns, and at most 10,000",
    )
    refused(Files(file("x.csv", "a" + ",b" * 10_000 + "\n")), "10,001 columns")
    refused(Files(file("x.csv", "")), "is empty")
    assert rows_of(Files(file("x.csv", "a,b\n"))) == []


def test_lines_end_in_every_way(file: Callable[..., str]) -> None:
    for end in ("\n", "\r\n", "\r"):
        path = file("x.csv", end.join(["a,b", '"1",2', '3,"4"']))
        assert rows_of(Files(path)) == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}], repr(end)


def test_skipped_lines_own_names_and_nulls(file: Callable[..., str]) -> None:
    path = file("x.csv", "made by hand\n# 2013\nX;Y\nNA;1\n")
    assert rows_of(Files(path, Csv(skip=2, null=("NA",)))) == [{"X": None, "Y": "1"}]
    assert numbers_of(Files(path, Csv(skip=2))) == [4]
    assert rows_of(Files(path, Csv(skip=3, header=False, columns=("p", "q")))) == [{"p": "NA", "q": "1"}]
    refused(Files(path, Csv(skip=2, columns=("p",))), "columns= names 1")
    refused(Files(path, Csv(skip=9)), "it has 4 lines")


def test_a_name_that_stands_twice_hurts_where_it_is_declared(file: Callable[..., str]) -> None:
    path = file("x.csv", "carrier,name,founded,x,x\nUA,United,1926,1,2\n")
    assert len(records_of(Files(path), Carrier)) == 1
    with pytest.raises(OriginError, match="2 columns 'name'"):
        typed_of(Files(file("x.csv", "carrier,name,name,founded\nUA,a,b,1926\n")), Carrier)


# --- JSON ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Number:
    n: int


def test_a_broken_line_of_json_is_rejected_by_the_decoder_with_its_line(file: Callable[..., str]) -> None:
    path = file("x.jsonl", b'\xef\xbb\xbf{"n":1}\n{"n":\n[1]\n{"n":"2"}\n{"n":NaN}\n{"n":3}\n\xff\n')
    (out,) = typed_of(Files(path), Number)
    assert out.accepted.to_pylist() == [{"n": 1}, {"n": 3}] and out.numbers.tolist() == [1, 6]
    assert out.rejected.numbers.tolist() == [2, 3, 4, 5, 7]
    assert "broken JSON" in out.rejected.reasons[0] and "invalid UTF-8" in out.rejected.reasons[4]


ARRAYS = [
    ('[{"n":1},{"n":2}', "half a document"),
    ('[{"n":1},{"n":', "half a document"),
    ('[{"n":1}{"n":2}]', "where a comma or ] is due"),
    ('[{"n":1},]', "where a comma or ] is due"),
    ('[{"n":1}] x', "behind the document"),
    ('{"n":1}\n{"n":2}', r"it is an object with n, where an array is due: give JsonArray\(rows=...\)"),
    ("", "is empty"),
    ("<html>", "where an array is due"),
]


@pytest.mark.parametrize(("text", "said"), ARRAYS, ids=[said for _, said in ARRAYS])
def test_half_a_document_is_an_error(file: Callable[..., str], text: str, said: str) -> None:
    refused(Files(file("x.json", text)), said)


def test_rows_deep_in_a_document_are_found_or_missed_with_a_word(file: Callable[..., str]) -> None:
    path = file("x.json", json.dumps({"a": ["]", {"d": "}"}], 'b"': {"rows": [{"n": 1}, {"n": "]"}], "z": 1}}))
    assert [json.loads(row["document"]) for row in rows_of(Files(path, JsonArray('"b\\"".rows')))] == [
        {"n": 1},
        {"n": "]"},
    ]
    refused(Files(path, JsonArray("rows")), "there is no 'rows'; there are a, b\"")
    refused(Files(file("x.json", '{"rows": [1, 2]'), JsonArray("rows")), "half a document")
    (out,) = typed_of(Files(file("x.json", '[1, {"n": 1}, null]')), Number)
    assert out.numbers.tolist() == [2] and out.rejected.numbers.tolist() == [1, 3] and out.unit == "element"


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
    refused(Files(file("x.xml", text), Xml(element="row")), "document type|broken XML")


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
    assert (
        out.rejected.reasons
        == ["t: an array where an int is declared", "city: text at to where an object is declared"][:1]
        + out.rejected.reasons[1:]
    )


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

    refused(Files(file("x.xlsx", sheet(["a"], change=change))), "2 GiB of memory|cannot be read|columns")
    zeros = io.BytesIO()
    with (
        zipfile.ZipFile(zeros, "w", zipfile.ZIP_DEFLATED) as archive,
        zipfile.ZipFile(io.BytesIO(sheet(["a"]))) as whole,
    ):
        for name in whole.namelist():
            archive.writestr(name, whole.read(name) if "sheet1" not in name else b"<a>" + b" " * (200 << 20))
    refused(Files(file("x.xlsx", zeros.getvalue())), "no sheet that can be read|cannot be read|row 1")
    refused(Files(file("x.xlsx", b"PK no zip")), "no sheet that can be read")


# --- other formats, compression ----------------------------------------------------------------------------------------------


def test_short_lines_of_fixed_width_are_broken(file: Callable[..., str]) -> None:
    path = file("x.txt", "UA United \nAA Am\n\nDL Délta   x\n")
    format = FixedWidth({"carrier": (0, 2), "name": (3, 10)})
    assert rows_of(Files(path, format)) == [{"carrier": "UA", "name": "United"}, {"carrier": "DL", "name": "Délta"}]
    assert broken_of(Files(path, format)) == [(2, "5 characters, where 10 are due", b"AA Am")]
    loose = FixedWidth({"carrier": (0, 2), "name": (3, 10)}, padded=False, skip=1)
    assert [row["name"] for row in rows_of(Files(path, loose))] == ["Am", "Délta"]
    assert broken_of(Files(file("x.txt", b"\xff\xff 1234567\n"), format))[0][0] == 1
    latin = FixedWidth({"a": (0, 1), "b": (1, 3)}, encoding="latin-1")
    assert rows_of(Files(file("x.txt", b"\xe912\n"), latin)) == [{"a": "é", "b": "12"}]


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst", ".zip"])
def test_a_compressed_file_that_ends_too_early_is_an_error(file: Callable[..., str], suffix: str) -> None:
    text = b"a,b\n" + b"".join(b"%d,%d\n" % (n, n * 7919 % 10007) for n in range(20_000))
    made: dict[str, Callable[[bytes], bytes]] = {
        ".gz": gzip.compress,
        ".bz2": bz2.compress,
        ".xz": lzma.compress,
        ".zst": lambda data: pa.compress(data, "zstd", asbytes=True),
        ".zip": zip_of,
    }
    whole = made[suffix](text)
    assert len(rows_of(Files(file(f"x.csv{suffix}", whole)))) == 20_000
    for cut in (len(whole) // 2, len(whole) - 3):
        refused(Files(file(f"x.csv{suffix}", whole[:cut])), "x.csv")
    refused(Files(file(f"x.csv{suffix}", b"plain,text\n")), "x.csv")


def zip_of(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.csv", data)
    return out.getvalue()


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst", ".zip"])
@pytest.mark.parametrize("line", [b"a,b\n", b"x"], ids=["lines", "endless"])
def test_a_bomb_is_not_unpacked(tmp_path: Path, suffix: str, line: bytes) -> None:
    path = tmp_path / f"x.csv{suffix}"
    block, opened = line * (1 << 20), {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
    if suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.csv", "w") as member:
            for _ in range(72 // len(line)):
                member.write(block)
    elif suffix == ".zst":
        with pa.CompressedOutputStream(str(path), "zstd") as out:
            for _ in range(72 // len(line)):
                out.write(block)
    else:
        with opened[suffix](path, "wb") as out:
            for _ in range(72 // len(line)):
                out.write(block)
    assert path.stat().st_size < 2_000_000
    refused(Files(str(path)), "a bomb is not unpacked|more than 16 MiB and does not end")
    if (suffix, line) == (".gz", b"a,b\n"):
        assert len(stretches(Files(str(path), max_ratio=10**6))) > 1


def test_bytes_that_are_no_parquet_avro_or_sheet_are_errors(file: Callable[..., str]) -> None:
    for name in ("x.parquet", "x.avro", "x.ods", "x.xls", "x.csv.zip"):
        refused(Files(file(name, b"hello, this is none" * 10)), name)
    table = io.BytesIO()
    pq.write_table(pa.table({"a": range(1000)}), table)
    refused(Files(file("x.parquet", table.getvalue()[:-100])), "x.parquet")


def test_a_file_that_grows_or_changes_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a\n" + "1\n" * 3_000_000)
    origin = Files(str(path))
    (part,) = origin.parts(reading())
    rows = origin.read(part, reading())
    assert isinstance(next(rows), Rows)
    with path.open("a") as out:
        out.write("2\n")
    with pytest.raises(OriginError, match=r"x\.csv changed while it was read: nothing of it is taken"):
        list(rows)
    with pytest.raises(OriginError, match=r"x\.csv changed since it was listed"):
        list(origin.read(part, reading()))
    path.unlink()
    with pytest.raises(OriginError, match=r"x\.csv is gone"):
        list(origin.read(part, reading()))


def test_a_missing_extra_names_the_command(file: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *more: (
            None if name.partition(".")[0] in ("lxml", "fastavro", "python_calamine") else find(name, *more)
        ),
    )
    formats: list[tuple[str, FileFormat | None]] = [("x.xml", Xml(element="a")), ("x.avro", None), ("x.xlsx", None)]
    for name, format in formats:
        with pytest.raises(SettingsError, match=r"of the extra \[sources\]") as caught:
            stretches(Files(file(name, b""), format))
        assert caught.value.repair == "pip install 'watershed-pipeline[sources]'"


def test_files_of_lines_need_no_extra() -> None:
    assert JsonLines().suffixes and JsonLines() == JsonLines()
