"""Origins: one kind of value for where data comes from, be it files, databases, APIs, pages, topics or code.

    rows of an origin = Σ over its parts of (rows given + rows broken), each with its place        read twice, unchanged = the same rows

An origin is declared, and knows nothing of what is made of its rows: reference data becomes versioned tables, events go onto the log.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa

from pipeline.log.log import Log

Numbers = np.ndarray[Any, np.dtype[np.int64]]
DOCUMENTS = pa.schema([pa.field("document", pa.binary(), False)], metadata={"watershed": "documents"})
# Columns of text named by paths, where "tag[0]" is the first of several, and "tag.x" inside of a tag: XML.
FLATTENED = {"watershed": "flattened"}
BATCH_ROWS = 65_536  # that an origin gives at once, about; fewer where rows are wide


@dataclass(frozen=True)
class Part:
    """A piece of an origin that is read by itself, beside the others: a file, a range of a key, all of it.

    `name` says it to a person and never holds a secret; `version` changes when what it names does (size, time, ETag), "" where nobody
    knows.
    """

    name: str
    version: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class BrokenRow:
    """A row that is none: its place, the reason, and the bytes of it that there are."""

    number: int
    reason: str
    raw: bytes = b""


@dataclass(frozen=True)
class Rows:
    """A stretch of a part's rows, in its order.

    `batch` has the columns as the origin has them: text, numbers, times, nested; `numbers` (int64) the place of each row in its part,
    rising, from 1, counted in `unit`s (a line, a row, an element); `broken` the rows of the same stretch that could not be had. Where
    the origin has whole JSON documents, so that no two rows need agree in their types, `of_documents` makes such rows.
    """

    batch: pa.RecordBatch
    numbers: Numbers
    broken: Sequence[BrokenRow] = ()
    unit: str = "row"

    @classmethod
    def of_documents(
        cls, documents: pa.Array, numbers: Numbers, broken: Sequence[BrokenRow] = (), unit: str = "row"
    ) -> "Rows":
        """Rows of which each is one JSON object already, in UTF-8 (binary, none of them null)."""
        return cls(pa.RecordBatch.from_arrays([documents], schema=DOCUMENTS), numbers, broken, unit)

    @property
    def flattened(self) -> bool:
        """True where the columns are what is nested in rows, named by its paths (FLATTENED)."""
        return (self.batch.schema.metadata or {}).get(b"watershed") == b"flattened"

    @property
    def documents(self) -> pa.Array | None:
        """The JSON objects of rows that `of_documents` made; None of others."""
        return self.batch.column(0) if self.batch.schema.equals(DOCUMENTS, check_metadata=True) else None


@dataclass(frozen=True)
class Reading:
    """A reading, given what no origin declares.

    `secret(name)` is the credential of that name, SettingsError where it is not set. `since`: of the column `cursor` only values greater
    than or equal to it are wanted; an origin that cannot choose gives all, and of a key the newest row counts. `limit`: no more rows
    than these are looked at (a sample). `report(text)`: what a person should know (a wait, a retry, a dialect found). `retried()` is
    called for each request that is made again. `log()` opens the log for an origin that is a topic; None: the Kafka of the settings.
    """

    secret: Callable[[str], str]
    cursor: str = ""
    since: Any = None
    limit: int | None = None
    report: Callable[[str], None] = lambda text: None
    retried: Callable[[], None] = lambda: None
    log: Callable[[], Log] | None = None


@runtime_checkable
class Origin(Protocol):
    """A frozen, picklable value that says where rows are, without a secret: credentials are named."""

    @property
    def textual(self) -> bool:
        """True where every value is text, so that a column of numbers is written as text: CSV, XML, HTML."""

    def describe(self) -> Mapping[str, Any]:
        """The declaration as JSON, for lineage and for the inputs of a load; no secret."""

    def parts(self, reading: Reading) -> Sequence[Part]:
        """The parts as they are now, in an order of their own. OriginError (with the repair) where it cannot be reached."""

    def read(self, part: Part, reading: Reading) -> Iterator[Rows]:
        """The part's rows, streamed in bounded memory. OriginError where it breaks off, or changed meanwhile: then nothing of it counts."""
