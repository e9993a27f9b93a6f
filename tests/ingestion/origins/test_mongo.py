"""Collections of documents as origins, over MongoDB's protocol: each once, as it is stored."""

from __future__ import annotations

import pickle
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from bson import Binary, Decimal128, Int64, ObjectId, Regex
from pymongo import MongoClient

from ingestion.origin import Origin, Reading
from ingestion.origins import mongo
from ingestion.origins.mongo import Mongo
from pipeline.base.errors import DefinitionError, OriginAway, OriginError
from sandbox.mongodb import JavaMongo
from sandbox.processes import ServerError, free_ports
from tests.conftest import skip_or_fail
from tests.support.databases import read

Make = Callable[..., Reading]
AT = datetime(2026, 1, 2, 3, 4, 5, 6000, tzinfo=UTC)
pytestmark = pytest.mark.usefixtures("waits")


@pytest.fixture(scope="module")
def server(server_folder: Path) -> Iterator[JavaMongo]:
    try:
        started = JavaMongo(server_folder / "mongo").start()
    except ServerError as error:
        skip_or_fail(str(error))
    yield started
    started.stop()


def fill(url: str, documents: list[dict[str, Any]]) -> Mongo:
    """A collection of that name of a new database."""
    database = f"test_{uuid.uuid4().hex}"
    with MongoClient[dict[str, Any]](url, uuidRepresentation="standard") as client:
        client[database]["orders"].insert_many(documents)
    return Mongo("DB", database=database, collection="orders")


def test_every_document_comes_once_by_its_id(server: JavaMongo, reading: Make) -> None:
    origin = fill(server.url, [{"_id": n, "a": f"x{n}"} for n in range(4999, -1, -1)])
    given = reading(DB=server.url)
    assert read(origin, given) == [{"_id": n, "a": f"x{n}"} for n in range(5000)]
    assert read(origin, replace(given, limit=3)) == [{"_id": n, "a": f"x{n}"} for n in range(3)]


def test_values_are_what_is_stored(server: JavaMongo, reading: Make) -> None:
    stored = {
        "_id": ObjectId("0123456789abcdef01234567"),
        "at": AT,
        "price": Decimal128("0.10"),
        "long": Int64(2**40),
        "bytes": b"\x00\xff",
        "binary": Binary(b"x", 128),
        "uuid": uuid.UUID(int=7),
        "nested": {"list": [{"n": Int64(1)}, {"n": 2}], "none": None},
        "regex": Regex("a", "i"),
        "mixed": "x",
    }
    found = read(fill(server.url, [stored, {"_id": 2, "mixed": 1}]), reading(DB=server.url))
    (found,) = [row for row in found if row["_id"] != "2"]
    regex = found.pop("regex")
    assert "Regex" in regex
    assert found == {
        "_id": "0123456789abcdef01234567",
        "at": AT,
        "price": Decimal("0.10"),
        "long": 2**40,
        "bytes": b"\x00\xff",
        "binary": b"x",
        "uuid": str(uuid.UUID(int=7)),
        "nested": {"list": [{"n": 1}, {"n": 2}], "none": None},
        "mixed": "x",
    }


def test_a_cursor_gives_what_is_at_or_after_it_and_what_has_none_or_another_type(
    server: JavaMongo, reading: Make
) -> None:
    origin = fill(
        server.url,
        [
            {"_id": 1, "c": 1},
            {"_id": 2, "c": 5},
            {"_id": 3, "c": 7},
            {"_id": 4, "c": None},
            {"_id": 5},
            {"_id": 6, "c": "x"},
        ],
    )
    found = read(origin, replace(reading(DB=server.url), cursor="c", since=5))
    assert [row["_id"] for row in found] == [2, 3, 4, 5, 6]


def test_a_wrong_name_is_answered_with_those_that_there_are(server: JavaMongo, reading: Make) -> None:
    origin = fill(server.url, [{"a": 1}])
    with pytest.raises(OriginError, match="there is no collection 'order'; there are orders. Did you mean 'orders'"):  # noqa: RUF043
        replace(origin, collection="order").parts(reading(DB=server.url))
    with pytest.raises(OriginError, match="there is no database 'nowhere'"):
        replace(origin, database="nowhere").parts(reading(DB=server.url))


def test_a_server_that_is_not_there_is_away_and_a_credential_that_is_no_url_is_refused(
    reading: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mongo, "CONNECT_MS", 100)
    nobody = f"mongodb://me:hidden-word@127.0.0.1:{free_ports(1)[0]}/"
    origin = Mongo("DB", database="a", collection="b")
    with pytest.raises(OriginAway, match=r"DB \(a\.b\): .*tried 6 times") as away:
        origin.parts(reading(DB=nobody))
    with pytest.raises(OriginError, match="no URL of MongoDB") as refused:
        origin.parts(reading(DB="mongodb://me:hidden-word@:x"))
    with pytest.raises(OriginError, match="no URL of MongoDB"):
        origin.parts(reading(DB="hidden-word"))
    assert "hidden-word" not in str(away.value) + str(refused.value) and not isinstance(refused.value, OriginAway)


def test_a_connection_that_breaks_in_the_middle_is_away(crash_folder: Path, reading: Make) -> None:
    try:
        server = JavaMongo(crash_folder / "mongo").start()
    except ServerError as error:
        skip_or_fail(str(error))
    with server:
        origin = fill(server.url, [{"_id": n, "a": "x" * 1000} for n in range(5000)])
        (part,) = origin.parts(reading(DB=server.url))
        rows = origin.read(part, reading(DB=server.url))
        count = next(rows).batch.num_rows
        server.kill()
        with pytest.raises(OriginAway):
            for one in rows:
                count += one.batch.num_rows
        assert count < 5000


def test_a_declaration_is_a_value() -> None:
    origin = Mongo("DB", database="a", collection="b")
    assert (
        isinstance(origin, Origin)
        and pickle.loads(pickle.dumps(origin)) == origin
        and hash(origin) == hash(replace(origin))
    )
    assert origin.describe() == {"kind": "Mongo", "credential": "DB", "database": "a", "collection": "b"}
    with pytest.raises(DefinitionError, match="Mongo names a credential"):
        Mongo("mongodb://x", database="a", collection="b")
