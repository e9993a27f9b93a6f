"""Files on S3 and behind HTTP are read as on a disk, and one that changes while it is read is an error."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from moto.server import ThreadedMotoServer

from ingestion.origins.csv import Csv
from ingestion.origins.files import Files
from ingestion.origins.parquet import Parquet
from pipeline.base.errors import OriginAway, OriginError
from tests.support.reading import reading, rows_of, stretches

ROWS = b"a,b\n" + b"1,x\n" * 3_000_000


@pytest.fixture(scope="module")
def s3() -> Iterator[tuple[Any, str]]:
    """A client, and the options behind an s3:// URL, of a server of this module's own with the bucket `in`."""
    import boto3

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "se/cr+et", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", **keys)
    client.create_bucket(Bucket="incoming")
    yield client, f"?scheme=http&endpoint_override={host}:{port}&region=us-east-1"
    server.stop()


def secret(name: str) -> str:
    assert name == "IN"
    return "key:se/cr+et"


def test_objects_of_a_pattern_are_read_and_named_without_a_secret(s3: tuple[Any, str]) -> None:
    client, options = s3
    for name, body in (("d/2.csv", b"a\n2\n"), ("d/1.csv", b"a\n1\n"), ("d/x/3.csv", b"a\n3\n"), ("d/4.txt", b"")):
        client.put_object(Bucket="incoming", Key=name, Body=body)
    origin = Files(f"s3://incoming/d/*.csv{options}", credentials="IN")
    parts = origin.parts(reading(secret=secret))
    assert [part.name for part in parts] == ["s3://incoming/d/1.csv", "s3://incoming/d/2.csv"]
    assert all(len(part.version.split("-")) >= 3 for part in parts) and "cr+et" not in repr((origin, parts))
    assert [row["a"] for row in rows_of(origin, reading(secret=secret))] == ["1", "2"]
    every = Files(f"s3://incoming/d/**/*.csv{options}", credentials="IN")
    assert [row["a"] for row in rows_of(every, reading(secret=secret))] == ["1", "2", "3"]
    with pytest.raises(OriginError, match=r"there is no file s3://incoming/none\.csv"):
        rows_of(Files(f"s3://incoming/none.csv{options}", credentials="IN"), reading(secret=secret))


def test_an_object_that_changes_while_it_is_read_is_an_error(s3: tuple[Any, str]) -> None:
    client, options = s3
    client.put_object(Bucket="incoming", Key="big.csv", Body=ROWS)
    origin, given = Files(f"s3://incoming/big.csv{options}", credentials="IN"), reading(secret=secret)
    (part,) = origin.parts(given)
    rows = origin.read(part, given)
    next(rows)
    client.put_object(
        Bucket="incoming", Key="big.csv", Body=ROWS.replace(b"x", b"y")
    )  # as long, within the same second
    with pytest.raises(OriginError, match=r"s3://incoming/big\.csv changed while it was read"):
        list(rows)
    (again,) = origin.parts(given)
    assert again.version != part.version
    rows = origin.read(again, given)
    next(rows)
    client.delete_object(Bucket="incoming", Key="big.csv")
    with pytest.raises(OriginError, match=r"s3://incoming/big\.csv is gone"):
        list(rows)


class Server(ThreadingHTTPServer):
    """Answers with `body` and `headers`; `cut`: with so many bytes of it; `status`: with an error; `asked`: the headers that came."""

    body, etag, status, cut, head = b"a,b\n1,x\n", '"1"', 200, None, True
    asked: list[Any]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_HEAD(self) -> None:
        self.answer(False)

    def do_GET(self) -> None:
        self.answer(True)

    def answer(self, whole: bool) -> None:
        server = self.server
        server.asked.append(self.headers)
        if self.path.startswith("/moved"):
            self.send_response(302)
            self.send_header("Location", self.path.replace("/moved", ""))
            self.end_headers()
            return
        self.send_response(server.status if whole or server.head else 405)
        self.send_header("Content-Length", str(len(server.body)))
        if server.etag:
            self.send_header("ETag", server.etag)
        self.end_headers()
        if whole:
            self.wfile.write(server.body[: server.cut])

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def web() -> Iterator[tuple[Server, str]]:
    server = Server(("127.0.0.1", 0), Handler)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_file_behind_a_url_is_read_and_named_without_its_query(web: tuple[Server, str]) -> None:
    server, url = web
    said: list[str] = []
    origin = Files(f"{url}/moved/x.csv?token=hush", credentials="T")
    assert rows_of(origin, reading(said, secret=lambda _: "bearer-token")) == [{"a": "1", "b": "x"}]
    assert server.asked[-1]["Authorization"] == "Bearer bearer-token"
    (part,) = origin.parts(reading(secret=lambda _: "user:password"))
    assert (
        part.name == f"{url}/moved/x.csv" and part.version.startswith('"1"') and "hush" not in repr(part) + repr(said)
    )
    assert server.asked[-1]["Authorization"].startswith("Basic ")
    server.head = False
    assert len(rows_of(Files(f"{url}/x.csv"))) == 1
    server.etag = ""
    assert Files(f"{url}/x.csv").parts(reading())[0].version == ""


def test_what_a_server_does_wrong_is_an_error_worth_another_try_or_not(web: tuple[Server, str]) -> None:
    server, url = web
    origin = Files(f"{url}/x.csv")
    server.body, server.cut = b"a,b\n" * 1000, 100
    with pytest.raises(OriginAway, match=r"ended after 100 of 4,000 bytes"):
        stretches(origin)
    server.cut = None
    for status, kind in (
        (404, OriginError),
        (403, OriginError),
        (500, OriginAway),
        (429, OriginAway),
        (503, OriginAway),
    ):
        server.status = status
        with pytest.raises(kind, match=f"answers {status}") as caught:
            stretches(origin)
        assert type(caught.value) is kind
    with pytest.raises(OriginAway, match="cannot be reached"):
        stretches(Files("http://127.0.0.1:1/x.csv"))


def test_a_file_behind_a_url_that_changes_is_an_error(web: tuple[Server, str]) -> None:
    server, url = web
    server.body = ROWS
    origin = Files(f"{url}/x.csv")
    (part,) = origin.parts(reading())
    rows = origin.read(part, reading())
    next(rows)
    server.etag = '"2"'
    with pytest.raises(OriginError, match=r"x\.csv changed while it was read"):
        list(rows)
    with pytest.raises(OriginError, match=r"x\.csv changed since it was listed"):
        list(origin.read(part, reading()))


def test_a_format_that_needs_any_place_is_read_from_a_url_too(web: tuple[Server, str]) -> None:
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    server, url = web
    out = io.BytesIO()
    pq.write_table(pa.table({"a": [1, 2]}), out)
    server.body = out.getvalue()
    assert rows_of(Files(f"{url}/x", Parquet())) == [{"a": 1}, {"a": 2}]
    with pytest.raises(OriginError):
        server.body = b"<html>no csv</html>" + b"\0" * 20_000_000
        stretches(Files(f"{url}/x", Csv()))
