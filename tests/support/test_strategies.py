"""The strategies make what they say: enough broken, enough valid, every function and every rule in play."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from pipeline.base.types import ColumnType
from pipeline.definition.constraints import Between, Clip, Default, Length, Nullable, OneOf, Pattern, Scale
from pipeline.definition.expressions import FUNCTIONS, Call, Node, parse
from pipeline.definition.marks import Epoch, Header, Lenient, RecordKey, RecordTime, Zone
from pipeline.plain import Reference
from tests.support.strategies import blocks_of, expressions, logs, pool, spellings, views

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MAKING = settings(
    max_examples=600,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def functions(node: Node) -> Counter[str]:
    if not isinstance(node, Call):
        return Counter()
    return Counter([node.function]) + sum((functions(a) for a in node.arguments), Counter[str]())


def _reach_every_outcome(made: Counter[Any]) -> None:
    records = sum(made[w] for w in ("accepted", "duplicates", "rejected", "tombstones"))
    assert made["rejected"] >= 0.3 * records and made["accepted"] >= 0.3 * records, made
    assert min(made["duplicates"], made["tombstones"], made["filtered"], made["view-rejected"]) >= 0.01 * records, made
    assert made["folded"] >= 0.2 * records, made


@pytest.mark.slow
def test_views_and_logs_reach_every_rule() -> None:
    made: Counter[Any] = Counter()

    @seed(20130102)
    @MAKING
    @given(st.data())
    def collect(data: st.DataObject) -> None:
        view = data.draw(views())
        f = Reference([view])
        for partition, records in data.draw(logs(view)).items():
            f.feed(partition, records)
        for counts in f.counts.values():
            made.update(dict(zip(("accepted", "duplicates", "rejected", "tombstones"), counts, strict=True)))
        for counts in f.view_counts.values():
            made.update(dict(zip(("folded", "filtered", "view-rejected"), counts, strict=True)))
        for column in view.source.columns:
            made.update([column.type.kind, type(column.remedy), *map(type, (*column.constraints, *column.marks))])
            made.update(["in an element"] * column.of_element)
        made[f"identity of {len(view.source.identities)}"] += 1
        for aggregate in view.aggregates.values():
            made[type(aggregate).__name__] += 1
        made.update(reason.rpartition(": ")[2].split(" ")[0] for _, _, reason in f.rejected)

    collect()
    _reach_every_outcome(made)
    kinds = {"int", "float", "decimal", "str", "bool", "datetime", "date"}
    names = {
        "Count",
        "CountNonNull",
        "DistinctCount",
        "Sum",
        "Mean",
        "Variance",
        "StdDev",
        "Quantile",
        "Min",
        "Max",
        "First",
        "Last",
    }
    marks = {
        Between,
        Length,
        OneOf,
        Pattern,
        Scale,
        Clip,
        Default,
        Nullable,
        Epoch,
        Zone,
        Lenient,
        RecordKey,
        RecordTime,
        Header,
    }
    shapes = {"in an element", "identity of 0", "identity of 1", "identity of 2"}
    assert {*kinds, *names, *marks, *shapes} - set(made) == set()


@pytest.mark.slow
def test_expressions_reach_every_function() -> None:
    made: Counter[str] = Counter()
    columns = {"i": "int", "f": "float", "s": "str", "b": "bool", "at": "datetime", "d": "date"}

    @seed(20130102)
    @MAKING
    @given(st.sampled_from(["int", "float", "bool"]).flatmap(lambda kind: expressions(kind, columns, depth=3)))
    def collect(expression: pc.Expression) -> None:
        made.update(functions(parse(expression, "test")))

    collect()
    assert set(FUNCTIONS) - set(made) == set()


@given(st.data())
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_blocks_tile_the_log(data: st.DataObject) -> None:
    view = data.draw(views())
    for records in data.draw(logs(view)).values():
        blocks = data.draw(blocks_of(records))
        rows = [row for b in blocks for row in zip(*(b.batch.column(n).to_pylist() for n in range(4)), strict=True)]
        assert rows == [record[:4] for record in records]
        assert all(a.end == b.start for a, b in itertools.pairwise(blocks))


def test_spellings_mean_their_value() -> None:
    """Held to Python's own parsers, not to ours."""
    for kind, scale in (("int", 0), ("float", 0), ("decimal", 5), ("str", 0), ("bool", 0)):
        for value in pool(ColumnType(kind, scale)):
            for text in spellings(value):
                found = json.loads(text, parse_int=Decimal, parse_float=Decimal)
                exact = float(found) if kind == "float" else Decimal(found) if kind == "decimal" else found
                assert exact == value, (text, value)
    for value in pool(ColumnType("datetime")):
        for text in spellings(value):
            if text.startswith('"'):
                iso = re.sub(r",(\d{6})999 UTC", r".\1+00:00", json.loads(text).upper())
                assert (
                    datetime.fromisoformat(iso.replace("000-00", "-00:00") if iso.endswith("000-00") else iso) == value
                )
            else:
                assert Decimal(text) == (value - EPOCH) // timedelta(milliseconds=1), (text, value)
