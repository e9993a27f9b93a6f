"""Documents of a MongoDB collection as rows, by their _id.

    rows of a part = the documents whose cursor is not below its lower bound        those without one, or of another type, are among them

A find sees no one instant: a document that is written meanwhile is read as it was, or as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from ingestion.objects import in_batches
from ingestion.origin import Part, Reading, Rows
from ingestion.origins.declaring import Declaration, credential, is_text, need
from ingestion.retrying import Retrier
from pipeline.base.errors import OriginAway, OriginError, did_you_mean

CONNECT_MS = 10_000
SILENCE_MS = 300_000
NO_URL = "the credential is no URL of MongoDB; one is mongodb://user:password@host/"


@dataclass(frozen=True)
class Mongo(Declaration):
    """The collection of a database; the credential is its URL, `mongodb://user:password@host/`.

    An ObjectId is its 24 digits, a Decimal128 a decimal, documents and arrays nest. The usual mistake: a credential whose user may not
    list collections, so that a misspelt name cannot be told from an empty one.
    """

    credential: str
    database: str
    collection: str

    def __post_init__(self) -> None:
        credential(self.credential, "Mongo")
        is_text(self.database, "database of Mongo", "shop")
        is_text(self.collection, "collection of Mongo", "orders")

    def parts(self, reading: Reading) -> Sequence[Part]:
        """One part; the collection is looked for. See Origin.parts."""

        def look() -> list[Part]:
            with self._client(reading) as client:
                self._refuse_missing("database", self.database, client.list_database_names())
                there = client[self.database].list_collection_names()
                self._refuse_missing("collection", self.collection, there)
            return [Part(f"{self.database}.{self.collection}")]

        return Retrier(reading.report, count=reading.retried)(look)

    def read(self, part: Part, reading: Reading) -> Iterator[Rows]:
        """The documents, by _id; OriginAway where the connection breaks. See Origin.read."""
        with self._client(reading) as client:
            wanted: dict[str, Any] = {}
            if reading.cursor and reading.since is not None:
                # Not $gte: that leaves out nulls and other types without a word.
                wanted = {"$nor": [{reading.cursor: {"$lt": reading.since}}]}
            found = client[self.database][self.collection].find(wanted, batch_size=1000).sort("_id", 1)
            with found:
                yield from in_batches(map(_plain, found), "document", reading.limit)

    def _refuse_missing(self, kind: str, name: str, there: list[str]) -> None:
        if name not in there:
            listed = f"; there are {', '.join(sorted(there)[:30])}." if there else ", and no other"
            raise OriginError(f"{self.credential}: there is no {kind} {name!r}{listed}{did_you_mean(name, there)}")

    @contextmanager
    def _client(self, reading: Reading) -> Iterator[Any]:
        """A client; the driver's errors as OriginAway or OriginError, without the URL."""
        library, errors = need("pymongo", "a collection of MongoDB"), need("pymongo.errors", "a collection of MongoDB")
        url = reading.secret(self.credential)
        where = f"{self.credential} ({self.database}.{self.collection})"
        if not url.startswith(("mongodb://", "mongodb+srv://")):  # else the driver takes it for the name of a host
            raise OriginError(f"{where}: {NO_URL}")
        try:
            with library.MongoClient(
                url,
                appname="watershed",
                tz_aware=True,
                uuidRepresentation="standard",
                serverSelectionTimeoutMS=CONNECT_MS,
                connectTimeoutMS=CONNECT_MS,
                socketTimeoutMS=SILENCE_MS,
            ) as client:
                yield client
        except (errors.AutoReconnect, errors.CursorNotFound) as error:
            raise OriginAway(f"{where}: {_said(error, url)}") from None
        except (errors.PyMongoError, ValueError) as error:
            final = isinstance(error, errors.InvalidURI | errors.ConfigurationError | ValueError)
            said = (
                "the credential is no URL of MongoDB; one is mongodb://user:password@host/"
                if final
                else _said(error, url)
            )
            raise OriginError(f"{where}: {said}") from None


def _said(error: Exception, url: str) -> str:
    """The driver's words, their first sentence, without the password."""
    password = url.partition("://")[2].rpartition("@")[0].partition(":")[2]
    line = " ".join(str(error).split()).partition(", full error")[0].partition(", Timeout:")[0][:300]
    return line.replace(password, "***") if password else line


def _plain(value: Any) -> Any:
    """A value of BSON as one of Python's own."""
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if value is None or isinstance(value, bool | float | datetime | UUID):
        return value
    for kind in (str, int, bytes):  # Int64, Code and Binary are of their own types
        if isinstance(value, kind):
            made: Any = kind
            return made(value)
    return value.to_decimal() if hasattr(value, "to_decimal") else str(value)
