"""The origins of docs/DATA-IN.md, each line of code as it stands there, read against what it names: files, servers, a function."""

from __future__ import annotations

import base64
import gzip
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro
import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kafka import KafkaProducer
from moto.server import ThreadedMotoServer
from pymongo import MongoClient

import ingestion
from ingestion.origin import Origin, Reading
from pipeline.log.kafka.log import KafkaLog
from pipeline.settings import find_origin_secret
from sandbox.mongodb import JavaMongo
from sandbox.processes import ServerError
from tests.conftest import skip_or_fail
from tests.support.api import ROWS, Api, Asked, Reply, by_number, pages
from tests.support.databases import World
from tests.support.docs import code_of, evaluated, tables

PAGE = "docs/DATA-IN.md"


LINES = {row[0]: code_of(row[1]) for row in tables(PAGE, "## Origins")}
NAMES: dict[str, Any] = {name: getattr(ingestion, name) for name in ingestion.__all__}


def rates() -> Iterator[dict[str, Any]]:
    """The function that the page gives to Custom."""
    yield {"currency": "CHF", "rate": 0.93}


def rows_of(line: str, **replaced: str) -> list[dict[str, Any]]:
    """The rows of the origin that the line makes, where hosts that the page makes up are those of the test; credentials as they are set."""
    for name, value in {"api": "https://api.example.com", "site": "https://example.com"}.items():
        line = line.replace(value, replaced.get(name, value))
    for old, new in replaced.items():
        line = line.replace(old, new)
    origin = evaluated(line, NAMES | {"rates": rates})
    assert isinstance(origin, Origin) and origin.describe()
    given = Reading(lambda name: find_origin_secret(name).get_secret_value())
    stretches = [rows for part in origin.parts(given) for rows in origin.read(part, given)]
    assert not [broken for rows in stretches for broken in rows.broken]
    texts = [rows.documents for rows in stretches]
    if any(text is not None for text in texts):
        return [json.loads(one) for text in texts if text is not None for one in text.to_pylist()]
    return [row for rows in stretches for row in rows.batch.to_pylist()]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with the folders that the page names."""
    monkeypatch.chdir(tmp_path)
    for name in ("data", "in"):
        (tmp_path / name).mkdir()
    return tmp_path


def parquet(rows: list[dict[str, Any]]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue()


# --- files -----------------------------------------------------------------------------------------------------------------------


def write_files(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The files that the page names, and the rows that its lines make of them."""
    (folder / "data/airlines.csv").write_bytes("carrier;name\nAŠ;Šálek\n".encode("cp1252", "replace"))
    for number, text in ((1, "N1;100\n"), (2, "N2;NA\n")):
        (folder / f"in/planes-{number}.csv.gz").write_bytes(
            gzip.compress(f"Kennzeichen;Plätze\n{text}".encode("cp1250"))
        )
    with zipfile.ZipFile(folder / "in/all.zip", "w") as archive:
        archive.writestr("a.csv", "a,b\n1,2\n")
        archive.writestr("b/c.csv", "a,b\n3,4\n")
    (folder / "in/orders.jsonl").write_text('{"id": 1, "price": 0.10}\n\n{"id": 2}\n')
    (folder / "in/orders.json").write_text('{"data": {"total": 2, "items": [{"id": 1}, {"id": "x"}]}}')
    (folder / "in/planes.xml").write_text(
        '<all><planes><plane id="1"><to><city>Ulm</city></to></plane></planes><plane id="no"/></all>'
    )
    book = openpyxl.Workbook()
    sheet = book.create_sheet("2013")
    for place, value in {"B3": "item", "C3": "price", "B4": "tea", "C4": 1.5, "B201": "beyond"}.items():
        sheet[place] = value
    book.save(folder / "in/prices.xlsx")
    (folder / "in/rates.parquet").write_bytes(parquet([{"currency": "CHF", "rate": 0.93}]))
    users = {
        "type": "record",
        "name": "user",
        "fields": [{"name": "id", "type": "long"}, {"name": "name", "type": ["null", "string"]}],
    }
    with (folder / "in/users.avro").open("wb") as out:
        fastavro.writer(out, users, [{"id": 1, "name": None}, {"id": 2, "name": "Ann"}])
    (folder / "in/stations.txt").write_text("0001Ulm             \n0002Köln            \n", encoding="utf-8")
    return {
        "CSV": [{"carrier": "AŠ", "name": "Šálek"}],
        "CSV, as given": [{"tailnum": "N1", "seats": "100"}, {"tailnum": "N2", "seats": None}],
        "Archive": [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}],
        "JSON lines": [{"id": 1, "price": 0.10}, {"id": 2}],
        "JSON": [{"id": 1}, {"id": "x"}],
        "XML": [{"@id": "1", "to.city": "Ulm"}],
        "Excel, ODS": [{"item": "tea", "price": "1.5"}],
        "Parquet": [{"currency": "CHF", "rate": 0.93}],
        "Avro": [{"id": 1, "name": None}, {"id": 2, "name": "Ann"}],
        "Fixed width": [{"id": "0001", "name": "Ulm"}, {"id": "0002", "name": "Köln"}],
    }


FILES = ("CSV", "CSV, as given", "Archive", "JSON lines", "JSON", "XML", "Excel, ODS", "Parquet", "Avro", "Fixed width")


@pytest.mark.parametrize("kind", FILES)
def test_a_line_of_files_reads_them(folder: Path, kind: str) -> None:
    wanted = write_files(folder)
    assert set(wanted) == set(FILES) and rows_of(LINES[kind]) == wanted[kind]


def test_the_line_of_s3_reads_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    import boto3

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        keys = {"aws_access_key_id": "key", "aws_secret_access_key": "se/cr+et", "region_name": "us-east-1"}
        client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", **keys)
        client.create_bucket(Bucket="incoming")
        for number in (1, 2):
            client.put_object(Bucket="incoming", Key=f"rates/{number}.parquet", Body=parquet([{"n": number}]))
        monkeypatch.setenv("WATERSHED_ORIGIN_IN", "key:se/cr+et")
        local = {"?region=eu-central-1": f"?scheme=http&endpoint_override={host}:{port}&region=us-east-1"}
        assert rows_of(LINES["S3 and others"], **local) == [{"n": 1}, {"n": 2}]
    finally:
        server.stop()


# --- servers ---------------------------------------------------------------------------------------------------------------------


def basic(text: str) -> str:
    return f"Basic {base64.b64encode(text.encode()).decode()}"


PAGE_OF_RATES = "<table><tr><td>menu</table><table id=rates><tr><th>currency<th>rate<tr><td>CHF<td>0.93</table>"
PAGE_OF_SHOP = '<ul><li class=product><h2>Tea {0}</h2><a href="/i/{0}">see</a></ul><a class=next href="{1}">more</a>'


def answer(asked: Asked) -> Any:
    """The servers that the page names, all at one place."""
    who = asked.headers.get("authorization")
    refused = Reply({"error": "who are you?"}, status=401)
    match asked.path:
        case "/airports.csv":
            body = b"faa,name\nULM,Ulm\n"
            return Reply(body, headers={"ETag": '"1"'}) if who == basic("me:secret") else refused
        case "/numbers":
            return by_number(asked)
        case "/offsets":
            start, size = int(asked.params["offset"]), int(asked.params["limit"])
            return {"data": {"items": ROWS[start : start + size]}} if who == "Bearer to ken" else refused
        case "/cursors":
            number = int(asked.params.get("cursor", "p0")[1:])
            meta = {"next": f"p{number + 1}" if number < 4 else None}
            return {"data": {"items": pages(ROWS, 5, number)}, "meta": meta} if who == basic("me:secret") else refused
        case "/next":
            number = int(asked.params.get("n", 0))
            links = {"next": f"/next?n={number + 1}"} if number < 4 else {}
            found = {"data": {"items": pages(ROWS, 5, number)}, "links": links}
            return found if asked.headers.get("x-api-key") == "k" else refused
        case "/token":
            return {"access_token": "T", "expires_in": 3600} if who == basic("id:sec") else refused
        case "/links":
            number = int(asked.params.get("n", 0))
            links = {"Link": f'</links?n={number + 1}>; rel="next"'} if number < 4 else {}
            return Reply(pages(ROWS, 5, number), headers=links) if who == "Bearer T" else refused
        case "/orders":
            return [{"id": 1}, {"id": 2}]
        case "/orders/1/lines" | "/orders/2/lines":
            return {"lines": [{"item": asked.path}]}
        case "/rates":
            return Reply(PAGE_OF_RATES.encode(), headers={"Content-Type": "text/html"})
        case "/shop":
            number = int(asked.params.get("p", 1))
            body = PAGE_OF_SHOP.format(number, f"?p={number + 1}" if number < 2 else "")
            return Reply(body.encode(), headers={"Content-Type": "text/html"})
    return Reply(status=404)


SERVED: dict[str, list[dict[str, Any]]] = {
    "A file behind HTTP": [{"faa": "ULM", "name": "Ulm"}],
    "API, pages by number": ROWS,
    "by offset": ROWS,
    "by cursor": ROWS,
    "by the next URL": ROWS,
    "by the header Link": ROWS,
    "below each row": [{"item": f"/orders/{n}/lines", "order": n} for n in (1, 2)],
    "Table of a page": [{"currency": "CHF", "rate": "0.93"}],
    "Elements of pages": [{"name": f"Tea {n}", "link": f"/i/{n}"} for n in (1, 2)],
}
SECRETS = {"SITE": "me:secret", "API": "to ken", "LOGIN": "me:secret", "KEY": "k", "CLIENT": "id:sec"}


@pytest.mark.parametrize("kind", SERVED)
def test_a_line_of_the_web_reads_what_a_server_answers(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, secret in SECRETS.items():
        monkeypatch.setenv(f"WATERSHED_ORIGIN_{name}", secret)
    with Api(answer) as api:
        assert rows_of(LINES[kind], api=api.url, site=api.url) == SERVED[kind]
        assert len(api.asked) < 20


@pytest.mark.parametrize("kind", ["postgresql", "sqlite"])
def test_the_lines_of_databases_read_them(
    kind: str, folder: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The credential is in a file here, which the environment names."""
    url = f"sqlite:///{folder}/planes.db" if kind == "sqlite" else request.getfixturevalue("postgres_url")
    World(kind, url).planes(300)
    (folder / "secret").write_text(f"{url}\n")
    monkeypatch.setenv("WATERSHED_ORIGIN_WAREHOUSE_FILE", str(folder / "secret"))
    assert sorted(row["id"] for row in rows_of(LINES["Table of a database"])) == list(range(300))
    assert rows_of(LINES["Query"]) == [{"id": n, "seats": n} for n in range(101, 300)]


def test_the_line_of_mongodb_reads_a_collection(server_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mongo = JavaMongo(server_folder / "mongo-of-the-page")
    try:
        mongo.start()
    except ServerError as error:
        skip_or_fail(str(error))
    try:
        monkeypatch.setenv("WATERSHED_ORIGIN_SHOP", mongo.url)
        with MongoClient[dict[str, Any]](mongo.url) as client:
            client["shop"]["orders"].insert_many([{"_id": 2, "to": {"city": "Ulm"}}, {"_id": 1}])
        assert rows_of(LINES["MongoDB"]) == [{"_id": 1, "to": None}, {"_id": 2, "to": {"city": "Ulm"}}]
    finally:
        mongo.stop()


@pytest.mark.kafka
def test_the_line_of_a_topic_reads_kafka_by_our_own_settings(
    real_kafka: str, topic_name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = KafkaLog(real_kafka)
    log.create_topic(topic_name, 2)
    log.close()
    producer = KafkaProducer(bootstrap_servers=real_kafka, acks="all")
    for partition in (0, 1):
        producer.send(topic_name, json.dumps({"n": partition}).encode(), partition=partition)
    producer.close()
    monkeypatch.setenv("WATERSHED_KAFKA", real_kafka)
    assert rows_of(LINES["Topic of Kafka"], prices=topic_name) == [{"n": 0}, {"n": 1}]


def test_the_line_of_a_function_calls_it() -> None:
    assert rows_of(LINES["Function"]) == [{"currency": "CHF", "rate": 0.93}]


def test_every_origin_stands_in_the_table_and_every_line_is_run() -> None:
    run = {*FILES, *SERVED, "S3 and others", "Table of a database", "Query", "MongoDB", "Topic of Kafka", "Function"}
    assert set(LINES) == run
    called = {name for line in LINES.values() for name in re.findall(r"\b([A-Z]\w+)\(", line)}
    assert set(ingestion.__all__) - called == {"Feed", "JsonLines", "Parquet"}, (
        "no origin; and those whose suffixes tell them"
    )
