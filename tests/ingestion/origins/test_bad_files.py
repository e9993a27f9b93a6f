"""Whatever is wrong in a file is an error that names it, or a broken row with its place; the rows around are read, and nothing hangs."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ingestion.origin import Rows
from ingestion.origins.csv import Csv
from ingestion.origins.files import Files
from ingestion.origins.fixed_width import FixedWidth
from ingestion.origins.format import FileFormat
from ingestion.origins.json import JsonArray, JsonLines
from ingestion.origins.xml import Xml
from pipeline.base.errors import OriginError, SettingsError
from tests.support.reading import broken_of, numbers_of, reading, records_of, refused, rows_of, stretches, typed_of


@dataclass(frozen=True)
class Carrier:
    carrier: str
    name: str
    founded: int | None


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
