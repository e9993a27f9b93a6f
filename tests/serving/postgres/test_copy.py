"""COPY carries every value of every type there and back, to the bit."""

import io
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import Engine

from pipeline.base.types import TIME_MAX
from serving.postgres.connection import transaction
from serving.postgres.copy import copy_in, copy_out, read_csv, to_csv
from tests.contract.world import connected

TYPES = {
    "text": (pa.string(), 'text COLLATE "C"'),
    "whole": (pa.int64(), "bigint"),
    "money": (pa.decimal128(18, 2), "numeric(18, 2)"),
    "tiny": (pa.decimal128(18, 12), "numeric(18, 12)"),
    "wide": (pa.decimal128(38, 0), "numeric"),
    "wider": (pa.decimal256(76, 0), "numeric"),
    "fine": (pa.decimal256(76, 18), "numeric"),
    "real": (pa.float64(), "double precision"),
    "yes": (pa.bool_(), "boolean"),
    "at": (pa.timestamp("us", "UTC"), "timestamptz"),
    "day": (pa.date32(), "date"),
    "noon": (pa.time64("us"), "time"),
    "mark": (pa.binary(16), "uuid"),
    "raw": (pa.binary(), "bytea"),
    "rate": (pa.decimal128(38, 18), "numeric(38, 18)"),
}
SCHEMA = pa.schema([(name, arrow) for name, (arrow, _) in TYPES.items()])


def whole(digits: int, scale: int = 0) -> st.SearchStrategy[Decimal]:
    limit = 10**digits - 1
    return st.integers(-limit, limit).map(lambda n: Decimal((n < 0, tuple(map(int, str(abs(n)))), -scale)))


texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=8) | st.sampled_from(
    [
        "",
        "\\.",
        "\n\\.\n",
        '"',
        '""',
        "\\N",
        "a,b",
        "\r\n",
        "\r",
        "\\",
        "'",
        "NULL",
        "\ufeff",
        "\U0001f327",
        " x ",
        "\t",
    ]
)
row = st.fixed_dictionaries(
    {
        "text": st.none() | texts,
        "whole": st.none() | st.integers(-(2**63), 2**63 - 1),
        "money": st.none() | whole(18, 2),
        "tiny": st.none() | whole(18, 12),
        "wide": st.none() | whole(38),
        "wider": st.none() | whole(76),
        "fine": st.none() | whole(76, 18),
        "real": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "yes": st.none() | st.booleans(),
        "at": st.none()
        | st.datetimes(datetime(1, 1, 1), TIME_MAX.replace(tzinfo=None)).map(lambda t: t.replace(tzinfo=UTC)),  # noqa: DTZ001
        "day": st.none() | st.dates(date(1, 1, 1), date(9999, 12, 31)),
        "noon": st.none() | st.times(),
        "mark": st.none() | st.binary(min_size=16, max_size=16),
        "raw": st.none() | st.binary(max_size=20),
        "rate": st.none() | whole(38, 18),
    }
)


@pytest.fixture
def table(postgres_url: str) -> Iterator[Engine]:
    with connected(postgres_url) as engine:
        with transaction(engine) as connection:
            columns = ", ".join(f'"{name}" {postgres}' for name, (_, postgres) in TYPES.items())
            connection.exec_driver_sql(f"CREATE TABLE public.trip (line int, {columns})")
        yield engine


def there_and_back(engine: Engine, rows: list[dict[str, object]]) -> tuple[pa.Table, pa.Table]:
    sent = pa.Table.from_pylist(rows, SCHEMA)
    numbered = sent.add_column(0, "line", [pa.array(range(len(rows)), pa.int32())])
    names = ", ".join(f'"{name}"' for name in SCHEMA.names)
    with transaction(engine) as connection:
        copy_in(connection, "public.trip", numbered.column_names, [numbered])
        got = copy_out(connection, f"SELECT {names} FROM public.trip ORDER BY line", SCHEMA)
        connection.rollback()
    return sent, got


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(row, max_size=12))
@example(rows=[dict.fromkeys(TYPES)])
@example(rows=[dict.fromkeys(TYPES) | {"text": text} for text in ("", "\\.", "\n\\.\n", None)])
@example(rows=[dict.fromkeys(TYPES) | {"real": real} for real in (5e-324, -0.0, 1.7976931348623157e308, 0.1 + 0.2)])
def test_what_is_copied_in_comes_out(table: Engine, rows: list[dict[str, object]]) -> None:
    sent, got = there_and_back(table, rows)
    assert got.equals(sent)
    assert [str(v) for v in got["real"].to_pylist()] == [str(v) for v in sent["real"].to_pylist()]  # -0.0 is not 0.0


def test_values_as_long_as_events_may_be(table: Engine) -> None:
    rows = [dict.fromkeys(TYPES) | {"text": letter * 5_000_000} for letter in ('"', "x", "\n")]
    sent, got = there_and_back(table, rows)
    assert got.equals(sent)


def test_rows_come_in_batches_of_bounded_size() -> None:
    schema = pa.schema([("text", pa.string()), ("n", pa.int64())])
    sent = pa.table({"text": ['a\n"b"' * 50] * 2000, "n": range(2000)}, schema)
    csv = bytes(to_csv(sent))
    batches = list(read_csv(io.BytesIO(csv), schema, block_bytes=10_000))
    assert len(batches) > 10 and max(batch.num_rows for batch in batches) < 100
    assert pa.Table.from_batches(batches).equals(sent)
