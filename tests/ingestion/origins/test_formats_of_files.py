"""Every format gives the same records, from every compression, and is the same value wherever it is declared."""

from __future__ import annotations

import bz2
import datetime as dt
import gzip
import io
import json
import lzma
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import fastavro
import openpyxl
import pyarrow as pa
import pyarrow.fs as fs
import pyarrow.parquet as pq
import pytest

from ingestion.origin import Origin
from ingestion.origins.avro import AvroFile
from ingestion.origins.csv import Csv
from ingestion.origins.excel import Excel
from ingestion.origins.files import Files
from ingestion.origins.fixed_width import FixedWidth
from ingestion.origins.format import FileFormat
from ingestion.origins.json import JsonArray, JsonLines
from ingestion.origins.parquet import Parquet
from ingestion.origins.xml import Xml
from pipeline import Scale, Zone
from pipeline.base.errors import DefinitionError, OriginError
from tests.support.reading import numbers_of, reading, records_of, rows_of, stretches


@dataclass(frozen=True)
class Plane:
    """One aeroplane."""

    tailnum: str
    seats: int | None
    speed: float
    cost: Annotated[Decimal, Scale(2)]
    built: dt.date
    seen: Annotated[dt.datetime, Zone("UTC")]
    jet: bool


ROWS: list[dict[str, Any]] = [
    {
        "tailnum": f"N{n} é;,\"'",
        "seats": None if n % 3 == 0 else n * 10,
        "speed": n / 4,
        "cost": Decimal(n).scaleb(-2) + Decimal("0.00"),
        "built": dt.date(2012, 2, 29),
        "seen": dt.datetime(2013, 1, 2, 3, 4, n, tzinfo=dt.UTC),
        "jet": n % 2 == 0,
    }
    for n in range(1, 8)
]
NAMES = list(ROWS[0])


def text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dt.datetime):
        return value.replace(tzinfo=None).isoformat() + "Z"
    return "" if value is None else str(value)


def csv_bytes() -> bytes:
    import csv

    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(NAMES)
    writer.writerows([text(value) for value in row.values()] for row in ROWS)
    return out.getvalue().encode()


def documents() -> list[str]:
    def plain(value: Any) -> Any:
        return value if isinstance(value, int | float | type(None)) else text(value)

    return [json.dumps({name: plain(value) for name, value in row.items()}) for row in ROWS]


def xml_bytes() -> bytes:
    from xml.sax.saxutils import escape

    rows = ["".join(f"<{name}>{escape(text(value))}</{name}>" for name, value in row.items()) for row in ROWS]
    return ("<fleet><planes>" + "".join(f"<plane>\n{row}</plane>" for row in rows) + "</planes></fleet>").encode()


def parquet_bytes() -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), out)
    return out.getvalue()


def avro_bytes() -> bytes:
    fields: list[dict[str, Any]] = [
        {"name": "tailnum", "type": "string"},
        {"name": "seats", "type": ["null", "long"]},
        {"name": "speed", "type": "double"},
        {"name": "cost", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
        {"name": "built", "type": {"type": "int", "logicalType": "date"}},
        {"name": "seen", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "jet", "type": "boolean"},
    ]
    out = io.BytesIO()
    fastavro.writer(out, {"type": "record", "name": "Plane", "fields": fields}, ROWS, codec="deflate")
    return out.getvalue()


def excel_bytes() -> bytes:
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append(NAMES)
    for row in ROWS:
        sheet.append([v.replace(tzinfo=None) if isinstance(v, dt.datetime) else v for v in row.values()])
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


WIDTHS = {"tailnum": 12, "seats": 4, "speed": 8, "cost": 8, "built": 10, "seen": 20, "jet": 5}


def fixed_bytes() -> bytes:
    lines = ["".join(text(value).ljust(WIDTHS[name]) for name, value in row.items()) for row in ROWS]
    return ("\n".join(lines) + "\n").encode()


def fixed() -> FixedWidth:
    places, at = {}, 0
    for name, width in WIDTHS.items():
        places[name] = (at, at + width)
        at += width
    return FixedWidth(places)


def one_array(path: str = "") -> bytes:
    array = "[" + " ,\n".join(documents()) + "]"
    return (
        f'{{"a": {{"x": [1, "]"]}}, "data": {{"of": "{{", "rows": {array}, "more": [[]]}}}}' if path else array
    ).encode()


FORMATS: list[tuple[str, FileFormat | None, Callable[[], bytes]]] = [
    ("x.csv", None, csv_bytes),
    ("x.jsonl", None, lambda: "\n\n".join(documents()).encode()),
    ("x.json", None, one_array),
    ("x.json", JsonArray(rows="data.rows"), lambda: one_array("data.rows")),
    ("x.xml", Xml(element="planes/plane"), xml_bytes),
    ("x.parquet", None, parquet_bytes),
    ("x.avro", None, avro_bytes),
    ("x.xlsx", None, excel_bytes),
    ("x.txt", fixed(), fixed_bytes),
]
COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    ".gz": lambda data: gzip.compress(data[:100]) + gzip.compress(data[100:]),
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: pa.compress(data, "zstd", asbytes=True),
    ".zip": lambda data: zipped({"x": data}),
}


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize(("name", "format", "made"), FORMATS, ids=[f"{n}-{type(f).__name__}" for n, f, _ in FORMATS])
def test_every_format_gives_the_records_that_were_written(
    tmp_path: Path, name: str, format: FileFormat | None, made: Callable[[], bytes], compression: str
) -> None:
    (tmp_path / (name + compression)).write_bytes(COMPRESSIONS[compression](made()))
    origin = Files(str(tmp_path / (name + compression)), format)
    assert isinstance(origin, Origin)
    assert records_of(origin, Plane) == ROWS
    assert rows_of(origin) == rows_of(pickle.loads(pickle.dumps(origin)))
    assert (
        records_of(
            Files(
                "x*" + compression,
                format or origin._its_format(),
                filesystem=fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem()),
            ),
            Plane,
        )
        == ROWS
    )


def test_files_of_a_pattern_are_parts_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("b/2.csv", "b/1.csv", "a.csv", "b/c/3.csv", "b/.4.csv", "b/5.txt"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(f"n\n{name}\n")
    parts = {
        pattern: [p.name for p in Files(pattern, Csv()).parts(reading())]
        for pattern in ("b/*.csv", "**/*.csv", "b/?.*", "b/[!1].csv")
    }
    assert parts == {
        "b/*.csv": ["b/1.csv", "b/2.csv"],
        "**/*.csv": ["a.csv", "b/1.csv", "b/2.csv", "b/c/3.csv"],
        "b/?.*": ["b/1.csv", "b/2.csv", "b/5.txt"],
        "b/[!1].csv": ["b/2.csv"],
    }
    assert rows_of(Files("b/*.csv")) == [{"n": "b/1.csv"}, {"n": "b/2.csv"}]
    with pytest.raises(OriginError, match=r"no file matches z/\*\.csv"):
        Files("z/*.csv").parts(reading())
    with pytest.raises(OriginError, match=r"b is a folder; name its files, as b/\*\.csv"):
        Files("b", Csv()).parts(reading())
    with pytest.raises(OriginError, match=r"there is no file none\.csv"):
        Files("none.csv").parts(reading())


def test_each_file_in_a_zip_is_a_part(tmp_path: Path) -> None:
    (tmp_path / "x.csv.zip").write_bytes(
        zipped(
            {
                "b.csv": b"n\n2\n",
                "a.csv": b"n\n1\n",
                "README": b"hello",
                "__MACOSX/a.csv": b"?",
                "c.csv.gz": gzip.compress(b"n\n3\n"),
            }
        )
    )
    origin = Files(str(tmp_path / "x.csv.zip"))
    assert [p.name.rpartition("x.csv.zip/")[2] for p in origin.parts(reading())] == ["a.csv", "b.csv", "c.csv.gz"]
    assert [row["n"] for row in rows_of(origin)] == ["1", "2", "3"]


def test_a_limit_is_the_first_rows(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b\n1,2\n3\n4,5\n6,7\n")
    few = stretches(Files(str(tmp_path / "x.csv")), reading(limit=3))
    assert [int(n) for rows in few for n in rows.numbers] == [2, 4]
    assert [b.number for rows in few for b in rows.broken] == [3]


def test_a_declaration_is_json_without_a_secret() -> None:
    origin = Files("s3://in/flights/*.csv?region=x", Csv(delimiter=";"), credentials="IN")
    assert json.loads(json.dumps(origin.describe())) == {
        "kind": "files",
        "pattern": "s3://in/flights/*.csv",
        "format": repr(Csv(delimiter=";")),
        "credentials": "IN",
    }
    assert origin == Files("s3://in/flights/*.csv?region=x", Csv(delimiter=";"), credentials="IN")
    with pytest.raises(DefinitionError, match="the URL has a password in it"):
        Files("s3://key:secret@in/flights.csv")


WRONG: list[tuple[Callable[[], Any], str]] = [
    (lambda: Files("data/x.dat"), "does not tell the format"),
    (lambda: Files(""), "allowed is a path"),
    (lambda: Files("x.csv", "csv"), "allowed is Csv"),  # type: ignore[arg-type]
    (lambda: Files("x.csv", max_ratio=0), "whole numbers from 1"),
    (lambda: Files("x.csv", sheet=1), "Files has no 'sheet'"),  # type: ignore[call-arg]
    (lambda: Csv(delimiter=";;"), "one sign of ASCII"),
    (lambda: Csv(encoding="klingon"), "no such encoding"),
    (lambda: Csv(header=False), "names are to be given"),
    (lambda: Csv(delimiter='"'), "both"),
    (lambda: Csv(skip=-1), "whole numbers of lines"),
    (lambda: Csv(null="NA"), "tuple of texts"),  # type: ignore[arg-type]
    (lambda: Xml(element="a:b"), "prefixes given as namespaces"),
    (lambda: Xml(element="a//b"), "a path of names"),
    (lambda: Excel(range="A"), "first and the last cell"),
    (lambda: Excel(range="C1:B2"), "first and the last cell"),
    (lambda: Excel(header_row=0), "rows from 1"),
    (lambda: FixedWidth({"a": (3, 3)}), "start < end"),
    (lambda: FixedWidth({"a": 3}), "allowed is"),  # type: ignore[dict-item]
    (lambda: JsonArray(rows="a[0]"), "a path of names"),
]


@pytest.mark.parametrize(("made", "said"), WRONG, ids=[said for _, said in WRONG])
def test_a_wrong_declaration_says_what_is_allowed_and_where(made: Callable[[], Any], said: str) -> None:
    with pytest.raises(DefinitionError, match=said) as caught:
        made()
    assert caught.value.place and "test_formats_of_files.py" in caught.value.place


def test_numbers_are_lines_rows_and_elements(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b'\xef\xbb\xbfa,b\r\n\r\n"1\n2",3\r\n4,5')
    assert rows_of(Files(str(tmp_path / "x.csv"))) == [{"a": "1\n2", "b": "3"}, {"a": "4", "b": "5"}]
    assert numbers_of(Files(str(tmp_path / "x.csv"))) == [3, 5]
    (tmp_path / "x.jsonl").write_bytes(b'{}\n \n{"a":1}')
    assert numbers_of(Files(str(tmp_path / "x.jsonl"))) == [1, 3]


def test_formats_are_told_by_their_suffixes_alone() -> None:
    told = {
        name: type(Files(name)._its_format())
        for name in (
            "a.CSV",
            "a.tsv.gz",
            "a.ndjson.zst",
            "a.json",
            "a.pq",
            "a.avro",
            "a.ods.zip",
            "s3://b/*.parquet?x=y",
        )
    }
    assert list(told.values()) == [Csv, Csv, JsonLines, JsonArray, Parquet, AvroFile, Excel, Parquet]
