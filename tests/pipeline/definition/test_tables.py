"""Tables and lookups are values like views: checked when they are constructed, in the words of their columns."""

import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

import pyarrow.compute as pc
import pytest

from pipeline import (
    Append,
    Count,
    Derived,
    Full,
    Incremental,
    Lookup,
    Merge,
    RecordKey,
    References,
    RowCount,
    Scale,
    Snapshot,
    Source,
    Sum,
    Table,
    Validity,
    View,
    tumbling,
)
from pipeline.base.errors import DefinitionError
from pipeline.definition.fingerprints import table_fingerprint, view_fingerprint
from pipeline.definition.view import reads
from tests.support.simulated import MadeUp


@dataclass(frozen=True)
class Plane:
    tailnum: str
    carrier: str
    seats: int | None
    price: Annotated[Decimal, Scale(2)]
    share: float
    updated_at: datetime
    gone: bool
    valid_from: datetime | None
    valid_to: datetime | None


@dataclass(frozen=True)
class Flight:
    id: str
    tail: str | None
    number: int
    left_at: datetime
    fare: Annotated[Decimal, Scale(2)]


ORIGIN = MadeUp("planes")
FLIGHTS = Source("flights", Flight, key="id", event_time="left_at", identity="id")


def table(**changes: Any) -> Table:
    given: dict[str, Any] = {"name": "planes", "origin": ORIGIN, "record": Plane, "key": ("tailnum",)}
    return Table(**given | changes)


def view(**changes: Any) -> View:
    given: dict[str, Any] = {
        "name": "delays",
        "source": FLIGHTS,
        "lookups": {"plane": Lookup(table(), on={"tailnum": "tail"})},
        "key": ("plane.carrier", "number"),
        "window": tumbling(days=1),
        "aggregates": {"flights": Count(), "seats": Sum("plane.seats")},
        "derive": {"of": Derived(pc.field("fare") / pc.field("plane", "seats"), Scale(2))},
        "where": pc.field("plane", "gone").is_null() | ~pc.field("plane", "gone"),
    }
    return View(**given | changes)


@dataclass(frozen=True)
class Around:
    key: Annotated[str, RecordKey()]


WRONG: list[tuple[str, Callable[[], Any]]] = [
    (r"Table is named 'Planes'", lambda: table(name="Planes")),
    (r"origin='planes\.csv' is no origin; allowed is one of ingestion's", lambda: table(origin="planes.csv")),
    (r"key='tailnum'; allowed is a tuple of different columns", lambda: table(key="tailnum")),
    (r"key names column 'tail', which Plane does not have; .*Did you mean 'tailnum'\?", lambda: table(key=("tail",))),
    (r"key column 'seats' may be null", lambda: table(key=("seats",))),
    (r"key column 'share' is a float", lambda: table(key=("share",))),
    (r"column 'key' is read from a record of Kafka", lambda: table(record=Around, key=("key",))),
    (r"load='full'; allowed are Full\(\), Append\(\)", lambda: table(load="full")),
    (r"cursor 'tailnum' is str; allowed is a number or a time that is never null", lambda: table(load=Merge("tailnum"))),
    (r"cursor 'seats' is int \| None", lambda: table(load=Incremental("seats"))),
    (r"overlap=5; allowed is a timedelta", lambda: table(load=Incremental("updated_at", overlap=5))),
    (r"is negative", lambda: table(load=Incremental("updated_at", overlap=timedelta(-1)))),
    (r"deleted names 'tailnum', which is no bool", lambda: table(load=Merge("updated_at", deleted="tailnum"))),
    (r"load=Snapshot\(\) needs history=Validity", lambda: table(load=Snapshot())),
    (r"Snapshot\(\) makes column 'valid_from', which the record has",
     lambda: table(load=Snapshot(), history=Validity("valid_from", "ended"))),
    (r"history names column 'seats', which is no datetime", lambda: table(history=Validity("seats", "valid_to"))),
    (r"keeps one row a key, and history= several",
     lambda: table(load=Append(), history=Validity("valid_from", "valid_to"))),
    (r"checks has 'few'; allowed are RowCount", lambda: table(checks=("few",))),
    (r"References\('seats'\): table planes has key \('tailnum',\)", lambda: table(checks=(References("seats", table()),))),
    (r"Lookup: table='planes' is no Table", lambda: Lookup("planes", on={"tailnum": "tail"})),
    (r"on=\{'tail': 'tailnum'\}; allowed is \{\"tailnum\": \"a column of the event\"\}",
     lambda: Lookup(table(), on={"tail": "tailnum"})),
    (r"a table with history is looked up as of a time of the event",
     lambda: Lookup(table(history=Validity("valid_from", "valid_to")), on={"tailnum": "tail"})),
    (r"lookups\['plane'\]: column 'number' is int, and planes\.tailnum is str",
     lambda: view(lookups={"plane": Lookup(table(), on={"tailnum": "number"})})),
    (r"lookups\['plane'\] is .*; allowed is Lookup", lambda: view(lookups={"plane": table()})),
    (r"lookups=\[\]; allowed is a mapping of names", lambda: view(lookups=[])),
    (r"names column 'plane\.colour', which Flight does not have; it has .*plane\.carrier", lambda: view(key=("plane.colour",))),
    (r"names column 'plane\.colour', which it cannot read", lambda: view(where=pc.field("plane", "colour").is_null())),
    (r"key column 'plane\.share' is a float", lambda: view(key=("plane.share",))),
    (r"two different tables are named 'planes'",
     lambda: view(lookups={"plane": Lookup(table(), on={"tailnum": "tail"}),
                           "other": Lookup(table(load=Append()), on={"tailnum": "tail"})})),
]  # fmt: skip


@pytest.mark.parametrize(("says", "declare"), WRONG, ids=[says[:40] for says, _ in WRONG])
def test_a_wrong_table_or_lookup_is_refused_in_words_and_where_it_stands(says: str, declare: Callable[[], Any]) -> None:
    with pytest.raises(DefinitionError, match=says) as refused:
        declare()
    assert refused.value.place is not None and "test_tables.py" in refused.value.place


def test_the_columns_of_a_lookup_are_typed_read_and_null_where_it_may_find_nothing() -> None:
    made = view()
    assert made.types["plane.price"] == table().types["price"]
    assert made.nullable_keys == {"plane.carrier"}
    assert view(lookups={"plane": Lookup(table(), on={"tailnum": "tail"}, required=True)}).nullable_keys == frozenset()
    assert made.tables == {"planes"}
    assert reads(made) == {"tail", "number", "fare", "left_at"}


def test_a_view_with_lookups_is_equal_hashed_and_pickled_as_others() -> None:
    assert view() == view() and hash(view()) == hash(view())
    again = pickle.loads(pickle.dumps(view()))
    assert again == view() and view_fingerprint(again) == view_fingerprint(view())


@pytest.mark.parametrize(
    "lookups",
    [
        {"plane": Lookup(table(), on={"tailnum": "tail"}, required=True)},
        {"plane": Lookup(table(), on={"tailnum": "id"})},
        {"plane": Lookup(table(name="aircraft"), on={"tailnum": "tail"})},
        {"plane": Lookup(table(history=Validity("valid_from", "valid_to")), on={"tailnum": "tail"}, as_of="left_at")},
    ],
)
def test_what_a_lookup_finds_by_is_in_the_fingerprint(lookups: Any) -> None:
    assert view(lookups=lookups) != view()
    assert view_fingerprint(view(lookups=lookups)) != view_fingerprint(view())


def test_where_a_tables_rows_come_from_and_how_they_are_loaded_is_in_no_fingerprint() -> None:
    other = table(origin=MadeUp("elsewhere"), load=Merge("updated_at"), checks=(RowCount(at_least=1),))
    assert other != table() and table_fingerprint(other) == table_fingerprint(table())
    assert view_fingerprint(view(lookups={"plane": Lookup(other, on={"tailnum": "tail"})})) == view_fingerprint(view())


def test_a_snapshot_has_the_columns_of_its_history_beside_the_records() -> None:
    made = table(load=Snapshot(), history=Validity("begun_at", "ended_at"))
    assert [c.name for c in made.columns][-2:] == ["begun_at", "ended_at"]
    assert all(c.nullable for c in made.columns[-2:])
    assert made.makes_history and not table(load=Full()).makes_history
    assert replace(made, load=Snapshot()) == made
