"""Rows of a database: a table, a view, or the rows of a query, streamed by a server-side cursor.

    rows = Σ over the parts of rows(k) with from <= k < to

The first part has no lower bound and those whose k is null too, the last no upper one. Each part is one transaction that sees one instant
and writes nothing. Parts of a table that changes meanwhile see several instants: where that matters, do not split.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ingestion.objects import column, next_size
from ingestion.origin import Part, Reading, Rows
from ingestion.origins.declaring import Declaration, at_least, credential, is_text
from ingestion.retrying import Retrier
from pipeline.base.errors import DefinitionError, OriginError, did_you_mean

if TYPE_CHECKING:
    import sqlalchemy as sa
    from sqlalchemy.engine import Connection, CursorResult

    from ingestion.origins.sql_databases import Database

FIRST_ROWS = 1000  # that are fetched before anybody knows how wide they are
QUERY, WHERE = "the query", " where "  # names of parts: "planes", "planes where id < 7"
PARAMETER = re.compile(r"(?<![:\w\\]):(?=\w+(?!:))")  # where SQLAlchemy sees the name of a value in a text


@dataclass(frozen=True)
class Sql(Declaration):
    """`table` ("planes", "sales.planes") or `query` of the database whose URL is the credential: Postgres, MySQL, MariaDB or SQLite.

    `split` names a column of whole numbers, such as the key: its range is read in `ranges` parts side by side. With a cursor, rows whose
    cursor is null are given too, so that they are counted and not lost. The usual mistake: a query with two columns of one name.
    """

    credential: str
    table: str | None = None
    query: str | None = None
    split: str | None = None
    ranges: int = 8

    def __post_init__(self) -> None:
        credential(self.credential, "Sql")
        if (self.table is None) == (self.query is None):
            raise DefinitionError("Sql takes a table or a query: table='planes', or query='SELECT ...'")
        for name, example in (("table", "planes"), ("query", "SELECT * FROM planes"), ("split", "id")):
            if getattr(self, name) is not None:
                is_text(getattr(self, name), f"{name} of Sql", example)
        at_least(self.ranges, "ranges of Sql", 2)
        if not isinstance(self.ranges, int):
            raise DefinitionError(f"ranges of Sql is {self.ranges!r}; it must be a whole number")

    def parts(self, reading: Reading) -> Sequence[Part]:
        """One part, or one for each range of `split` as the column is now. See Origin.parts."""
        retrier = Retrier(reading.report, count=reading.retried)
        return retrier(lambda: self._parts(reading))

    def read(self, part: Part, reading: Reading) -> Iterator[Rows]:
        """The part's rows as of the instant at which it begins; OriginAway where the connection breaks. See Origin.read."""
        database = self._database(reading)
        with database.connected() as connection:
            statement = _Relation.of(self, connection, database).select(part.detail, reading, database)
            result = connection.execution_options(stream_results=True, max_row_buffer=1).execute(statement)
            yield from _batches(result, database)

    def _database(self, reading: Reading) -> Database:
        from ingestion.origins.sql_databases import Database

        return Database(self.credential, reading.secret(self.credential))

    def _parts(self, reading: Reading) -> list[Part]:
        database, name = self._database(reading), self.table or QUERY
        with database.connected() as connection:
            relation = _Relation.of(self, connection, database)
            if reading.cursor:
                relation.column(reading.cursor, "the cursor", database)
            if self.split is None or reading.limit is not None:
                return [Part(name)]
            key = relation.column(self.split, "split", database)
            low, high = connection.execute(relation.extremes(key, reading, database)).one()
        if low is None:
            return [Part(name)]
        bounds = _bounds(self.split, low, high, self.ranges, database)
        if not bounds:
            return [Part(name)]
        details = [
            {"column": self.split, "from": a, "to": b} for a, b in zip([None, *bounds], [*bounds, None], strict=True)
        ]
        return [Part(f"{name}{WHERE}{_shown(detail)}", detail=detail) for detail in details]


def without_range(origin: Mapping[str, Any], part: str) -> str:
    """Name of a part less its range, which moves with the rows; `origin` as `describe` gives it. Of other origins the name as it is."""
    name = origin.get("table") or QUERY
    return name if origin.get("kind") == Sql.__name__ and part.startswith(f"{name}{WHERE}") else part


@dataclass(frozen=True)
class _Relation:
    """A table or query as SQLAlchemy's FROM, with the names of its columns."""

    clause: sa.FromClause
    names: Sequence[str]
    whole: sa.Executable | None  # the query as it was written, which keeps its order

    @classmethod
    def of(cls, origin: Sql, connection: Connection, database: Database) -> _Relation:
        import sqlalchemy as sa

        if origin.table is not None:
            return _table(origin.table, connection, database)
        # Names in a query are its own: none is filled in here.
        words = PARAMETER.sub(r"\\:", str(origin.query).strip().rstrip(";"))
        aliased = sa.text(f"(\n{words}\n) AS watershed_query")  # it is the declared query
        clause: Any = aliased
        names = _names(clause, connection)
        _refuse_twice(names, database)
        return cls(clause, names, sa.text(words))

    def column(self, name: str, what: str, database: Database) -> sa.ColumnClause[Any]:
        """The column of that name; OriginError with those that there are."""
        import sqlalchemy as sa

        if name not in self.names:
            there = ", ".join(self.names)
            raise OriginError(
                f"{database.place}: {what} {name!r} is no column; there are {there}.{did_you_mean(name, [*self.names])}"
            )
        made: sa.ColumnClause[Any] = _quoted(sa.column, name)
        return made

    def select(self, detail: Mapping[str, Any], reading: Reading, database: Database) -> sa.Executable:
        """All columns of the rows that the part and the reading choose; values are bound, names quoted."""
        import sqlalchemy as sa

        wheres = self._since(reading, database)
        if detail:
            wheres.append(self._range(detail, database))
        if not wheres and reading.limit is None and self.whole is not None:
            return self.whole
        chosen = sa.select(*(_quoted(sa.column, name) for name in self.names)).select_from(self.clause).where(*wheres)
        return chosen if reading.limit is None else chosen.limit(reading.limit)

    def extremes(self, key: sa.ColumnClause[Any], reading: Reading, database: Database) -> sa.Executable:
        """The least and the greatest value of a column among the rows that the reading chooses."""
        import sqlalchemy as sa

        return (
            sa.select(sa.func.min(key), sa.func.max(key))
            .select_from(self.clause)
            .where(*self._since(reading, database))
        )

    def _since(self, reading: Reading, database: Database) -> list[sa.ColumnElement[bool]]:
        if not reading.cursor:
            return []
        cursor, since = self.column(reading.cursor, "the cursor", database), database.bound(reading.since)
        if since is None:
            return []
        return [(cursor >= since) | cursor.is_(None)]

    def _range(self, detail: Mapping[str, Any], database: Database) -> sa.ColumnElement[bool]:
        import sqlalchemy as sa

        key = self.column(detail["column"], "split", database)
        low, high = detail["from"], detail["to"]
        if low is None:
            return sa.or_(key < high, key.is_(None))
        return key >= low if high is None else sa.and_(key >= low, key < high)


def _quoted(make: Any, name: str, **more: Any) -> Any:
    from sqlalchemy.sql import quoted_name

    return make(quoted_name(name, quote=True), **more)


def _refuse_twice(names: Sequence[str], database: Database) -> None:
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise OriginError(
            f"{database.place}: the query has several columns {twice[0]!r}: give each a name of its own with AS"
        )


def _table(name: str, connection: Connection, database: Database) -> _Relation:
    """The table or view of that name, or of that schema and name; OriginError with those that there are."""
    import sqlalchemy as sa
    from sqlalchemy.sql import quoted_name

    inspector = sa.inspect(connection)
    schema, _, short = name.rpartition(".")
    for of, one in ((None, name), (schema, short)):
        if one and of != "" and one in _tables(inspector, of):
            more = {} if of is None else {"schema": quoted_name(of, quote=True)}
            clause = _quoted(sa.table, one, **more)
            return _Relation(clause, _names(clause, connection), None)
    try:
        there = _tables(inspector, schema or None)
    except sa.exc.SQLAlchemyError:
        there = _tables(inspector, None)
        schema = ""
    there = sorted(f"{schema}.{one}" if schema else one for one in there)
    listed = ", ".join(there[:30]) + (", ..." if len(there) > 30 else "")
    raise OriginError(
        f"{database.place}: there is no table {name!r}{f'; there are {listed}.' if there else ', and no other'}{did_you_mean(name, there)}"
    )


def _names(clause: Any, connection: Connection) -> list[str]:
    """The names of the columns of a table or query, as the rows will have them."""
    import sqlalchemy as sa

    return list(connection.execute(sa.select(sa.text("*")).select_from(clause).where(sa.text("1 = 0"))).keys())


def _tables(inspector: Any, schema: str | None) -> list[str]:
    found = [*inspector.get_table_names(schema=schema), *inspector.get_view_names(schema=schema)]
    if hasattr(inspector, "get_materialized_view_names") and inspector.dialect.name == "postgresql":
        found += inspector.get_materialized_view_names(schema=schema)
    return found


def _bounds(name: str, low: Any, high: Any, ranges: int, database: Database) -> list[int]:
    """The numbers at which a new part begins, without the first."""
    for one in (low, high):
        whole = isinstance(one, int) or (isinstance(one, Decimal) and one == one.to_integral_value())
        if not whole:
            raise OriginError(f"{database.place}: split needs a column of whole numbers; {name!r} has {one!r}")
    first, count = int(low), int(high) - int(low) + 1
    return sorted({first + count * n // ranges for n in range(1, ranges)} - {first})


def _shown(detail: Mapping[str, Any]) -> str:
    low, high = detail["from"], detail["to"]
    return f"{'' if low is None else f'{low} <= '}{detail['column']}{'' if high is None else f' < {high}'}"


def _batches(result: CursorResult[Any], database: Database) -> Iterator[Rows]:
    names = list(result.keys())
    _refuse_twice(names, database)  # SQLite renames those of a subquery, above
    converters = database.converters(result.cursor.description if result.cursor is not None else None) or [None] * len(
        names
    )
    given, size = 0, FIRST_ROWS
    while True:
        rows = result.fetchmany(size)
        if not rows:
            return
        columns = [
            column(values if convert is None else list(map(convert, values)))
            for values, convert in zip(zip(*rows, strict=True), converters, strict=True)
        ]
        batch = pa.RecordBatch.from_arrays(columns, names=names)
        yield Rows(batch, np.arange(given + 1, given + len(rows) + 1, dtype=np.int64))
        given, size = given + len(rows), next_size(batch, size)
