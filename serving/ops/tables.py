"""The tables: schema ops (the protocol's rows), and per view and generation one table of batch and one of speed states.

    batch row of a group served at visible number v  =  the row with the greatest batch <= v     ("newest at or below")

A batch stores only the groups touched since its base. That is right: cuts grow with their numbers in every partition
(choose takes the maximum over all cuts of the generation, withdrawn ones too), every stored row is the group's exact
state at its own batch's cut, and a batch stores every group touched in [its base's cut, its cut). Let b be the greatest
number <= v with a row for a group. Had the group been touched in [cut b, cut v), then either since the base of v, and v
itself would have a row, or before, and by induction a batch in (b, base of v] would. So b's row still holds at cut v,
whether b was published, covered or withdrawn; and after a rollback the rows above v are simply not looked at. A purge
may delete a row only when a later one of its group is at or below the batch it keeps.
"""

from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    false,
    func,
    text,
)
from sqlalchemy.types import UserDefinedType

from pipeline.definition.view import View
from pipeline.fold.states import WINDOW_START, group_columns, state_fields

SCHEMAS = ("ops", "batch", "speed", "serving", "tables")
TIME = DateTime(timezone=True)
OPS = MetaData(schema="ops")


def _counts(*names: str) -> list[Column[int]]:
    return [Column(name, BigInteger, nullable=False, server_default=text("0")) for name in names]


def _where(*more: Column[object]) -> list[Column[object]]:
    """The columns every table of the protocol begins with: topic and generation."""
    return [Column("topic", Text, nullable=False), Column("generation", Integer, nullable=False), *more]


RECORD_COUNTS = ("accepted", "duplicates", "rejected", "tombstones")
VIEW_COUNTS = ("folded", "filtered", "rejected")

generations = Table(
    "generations",
    OPS,
    Column("topic", Text, nullable=False),
    Column("number", Integer, nullable=False),
    Column("topic_id", Text, nullable=False),
    Column("starts", ARRAY(BigInteger), nullable=False),
    Column("source_fingerprint", Text, nullable=False),
    Column("definition", Text, nullable=False),
    Column("status", Text, nullable=False),  # building, active, retired
    Column("created_at", TIME, nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("topic", "number"),
)
Index("one_active_generation", generations.c.topic, unique=True, postgresql_where=generations.c.status == "active")

views = Table(
    "views",
    OPS,
    *_where(Column("view", Text, nullable=False), Column("fingerprint", Text, nullable=False)),
    Column("definition", Text, nullable=False),
    PrimaryKeyConstraint("topic", "generation", "view"),
)

positions = Table(
    "positions",
    OPS,
    *_where(Column("partition", Integer, nullable=False)),
    Column("position", BigInteger, nullable=False),
    Column("segment", BigInteger, nullable=False),
    Column("owner", Uuid),
    Column("worker", Text),
    Column("epoch", BigInteger, nullable=False, server_default=text("0")),
    Column("lease_until", TIME),
    Column("position_at", TIME, nullable=False, server_default=func.now()),
    Column("watermark_ms", BigInteger, nullable=False, server_default=text("-1")),
    Column("witness_offset", BigInteger),
    Column("witness_hash", Text),
    PrimaryKeyConstraint("topic", "generation", "partition"),
    postgresql_with={"fillfactor": "50"},  # a few rows, updated ten times a second: room on the page for HOT updates
)

schemas = Table(
    "schemas",
    OPS,
    Column("topic", Text, nullable=False),
    Column("source_fingerprint", Text, nullable=False),
    Column("id", BigInteger, nullable=False),
    Column("kind", Text),
    Column("text", Text),  # null: the registry did not know the id when it was asked
    Column("others", Text, nullable=False),  # what it refers to: JSON, [name, text] each
    Column("decided_at", TIME, nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("topic", "source_fingerprint", "id"),
)

segments = Table(
    "segments",
    OPS,
    *_where(Column("partition", Integer, nullable=False), Column("start", BigInteger, nullable=False)),
    Column("end", BigInteger, nullable=False),
    *_counts(*RECORD_COUNTS),
    PrimaryKeyConstraint("topic", "generation", "partition", "start"),
    postgresql_with={"fillfactor": "50"},
)

segment_views = Table(
    "segment_views",
    OPS,
    *_where(Column("partition", Integer, nullable=False), Column("start", BigInteger, nullable=False)),
    Column("view", Text, nullable=False),
    *_counts(*VIEW_COUNTS),
    PrimaryKeyConstraint("topic", "generation", "partition", "start", "view"),
    postgresql_with={"fillfactor": "50"},
)

cuts = Table(
    "cuts",
    OPS,
    *_where(Column("number", Integer, nullable=False), Column("date", Date)),  # batch 0 has no date
    Column("offsets", ARRAY(BigInteger), nullable=False),
    Column("chosen_at", TIME, nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("topic", "generation", "number"),
    UniqueConstraint("topic", "generation", "date"),
)

adoptions = Table(
    "adoptions",
    OPS,
    *_where(Column("number", Integer, nullable=False), Column("table_name", Text, nullable=False)),
    Column("version", Integer, nullable=False),
    PrimaryKeyConstraint("topic", "generation", "number", "table_name"),
)

table_versions = Table(
    "table_versions",
    OPS,
    Column("table_name", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("load", Text, nullable=False),  # the load's name: a date, or a time
    Column("begun_at", TIME, nullable=False, server_default=func.clock_timestamp()),
    Column("manifest", Text),  # null: its load has not made it
    Column("made_at", TIME),
    Column("exposed_at", TIME),
    PrimaryKeyConstraint("table_name", "version"),
    UniqueConstraint("table_name", "load"),
)

batches = Table(
    "batches",
    OPS,
    *_where(Column("number", Integer, nullable=False)),
    Column("status", Text, nullable=False),  # chosen, published, covered, withdrawn, purged; adopted
    Column("complete", Boolean, nullable=False, server_default=false()),
    Column("staged_from", Text),
    Column("staged_at", TIME),
    Column("published_at", TIME),
    Column("rollback_given_up", Boolean, nullable=False, server_default=false()),  # purge's mark
    PrimaryKeyConstraint("topic", "generation", "number"),
)

batch_counts = Table(
    "batch_counts",
    OPS,
    *_where(Column("number", Integer, nullable=False), Column("partition", Integer, nullable=False)),
    *_counts(*RECORD_COUNTS),
    PrimaryKeyConstraint("topic", "generation", "number", "partition"),
)

batch_views = Table(
    "batch_views",
    OPS,
    *_where(Column("number", Integer, nullable=False), Column("view", Text, nullable=False)),
    Column("partition", Integer, nullable=False),
    *_counts(*VIEW_COUNTS),
    PrimaryKeyConstraint("topic", "generation", "number", "view", "partition"),
)

visible = Table(
    "visible",
    OPS,
    *_where(Column("number", Integer, nullable=False), Column("previous", Integer)),
    PrimaryKeyConstraint("topic", "generation"),
)

snapshots = Table(
    "snapshots",
    OPS,
    *_where(Column("partition", Integer, nullable=False), Column("epoch", BigInteger, nullable=False)),
    Column("position", BigInteger, nullable=False),
    Column("path", Text, nullable=False),
    Column("created_at", TIME, nullable=False, server_default=func.clock_timestamp()),
    PrimaryKeyConstraint("topic", "generation", "partition", "path"),
)

# By the topic's id, not by generation: a record of the log is replayed once, whatever definition rejected it.
replays = Table(
    "replays",
    OPS,
    Column("topic", Text, nullable=False),
    Column("topic_id", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),  # why it was rejected when the replay was begun
    Column("mended", Boolean, nullable=False),  # sent with another value
    Column(
        "sought_from", BigInteger, nullable=False
    ),  # the log's end before it was first sent: it lies there or above, or nowhere
    Column("run", Uuid, nullable=False),  # the replay that noted it last: no other sends it
    Column("begun_at", TIME, nullable=False, server_default=func.clock_timestamp()),
    Column("sent_offset", BigInteger),  # null: begun, and not known to be sent
    Column("sent_at", TIME),
    PrimaryKeyConstraint("topic", "topic_id", "partition", "offset"),
)

workers = Table(
    "workers",
    OPS,
    Column("topic", Text, nullable=False),
    Column("worker", Text, nullable=False),
    Column("alive_until", TIME, nullable=False),
    PrimaryKeyConstraint("topic", "worker"),
)


class SqlType(UserDefinedType[object]):
    """A type given by its SQL text, as StateField.postgres is."""

    cache_ok = True

    def __init__(self, sql: str) -> None:
        self.sql = sql

    def get_col_spec(self, **_: object) -> str:
        return self.sql


def table_name(view: str, generation: int) -> str:
    """The name of a view's tables in the schemas batch and speed."""
    return f"{view}__g{generation}"


def state_columns(view: View) -> list[Column[object]]:
    """Key columns, window_start and state fields, as state_schema(view) has them.

    Quoted always: SQLAlchemy's list of reserved words is not Postgres's (`collation` is missing, tried).
    """
    columns: list[Column[object]] = [
        Column(name, SqlType(view.types[name].postgres), nullable=name in view.nullable_keys, quote=True)
        for name in view.key
    ]
    columns.append(Column(WINDOW_START, TIME, nullable=False))
    return columns + [Column(name, SqlType(field.postgres), quote=True) for name, field in state_fields(view).items()]


def group_key(view: View, *more: str) -> PrimaryKeyConstraint | UniqueConstraint:
    """One row for each group and `more`: a primary key, or where a key may be null a constraint to which nulls are equal (Postgres 15)."""
    if not view.nullable_keys:
        return PrimaryKeyConstraint(*group_columns(view), *more)
    return UniqueConstraint(*group_columns(view), *more, postgresql_nulls_not_distinct=True)


def batch_table(view: View, generation: int) -> Table:
    """batch.<view>__g<n>: the states of the groups each batch touched, at its cut."""
    return Table(
        table_name(view.name, generation),
        MetaData(schema="batch"),
        *state_columns(view),
        Column("batch", Integer, nullable=False),
        group_key(view, "batch"),
    )


def speed_table(view: View, generation: int) -> Table:
    """speed.<view>__g<n>: the states of each segment. Rewritten at every commit, so pages keep room for HOT updates."""
    table = Table(
        table_name(view.name, generation),
        MetaData(schema="speed"),
        *state_columns(view),
        Column("partition", Integer, nullable=False),
        Column("segment", BigInteger, nullable=False),
        group_key(view, "partition", "segment"),
        postgresql_with={"fillfactor": "70", "autovacuum_vacuum_scale_factor": "0.05"},
    )
    Index(f"{table.name}_segment", table.c.partition, table.c.segment)
    return table


def temporary_table(view: View, generation: int, ending: str, *more: Column[Any], on_commit: str = "DROP") -> Table:
    """The connection's own table of states that are copied before anything is locked."""
    name = table_name(view.name, generation) + ending
    return Table(
        name,
        MetaData(schema="pg_temp"),
        *state_columns(view),
        *more,
        prefixes=["TEMPORARY"],
        postgresql_on_commit=on_commit,
    )
