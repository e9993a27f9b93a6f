"""The demo to its end, on servers that outlive it: its answers held to plain sums of the files' own rows, by the log and the ledger."""

from __future__ import annotations

import csv
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.log.kafka.log import KafkaLog
from sandbox.demo_plan import QUICK, RENAMED
from sandbox.embedded_broker import EmbeddedBroker
from sandbox.flights import flights
from serving.postgres.connection import engine
from tests.support.chart_colours import EVERYTHING, drawn
from tests.support.commands import NEEDS_PROC, Commands

Flight = dict[str, Any]
Group = tuple[str | None, ...]


def read(path: Path, *key: str) -> dict[tuple[str, ...], dict[str, str]]:
    """The rows of a CSV file by their key."""
    with path.open(newline="") as lines:
        return {tuple(row[name] for name in key): row for row in csv.DictReader(lines)}


def accepted(kafka: str) -> Iterator[tuple[int, int, Flight]]:
    """(partition, offset, flight) of each record that is a whole row of the file, the first time that it comes."""
    rows, seen = {row["id"]: row for row in flights(QUICK.flights_from, QUICK.until)}, set[str]()
    log = KafkaLog(kafka)
    try:
        for partition, end in enumerate(log.end_offsets("flights")):
            for block in log.read("flights", partition, 0, end):
                for offset, value in zip(
                    block.batch.column("offset").to_pylist(), block.batch.column("value").to_pylist(), strict=True
                ):
                    for row in (rows.get(name) for name in named(value)):
                        if row is not None and json.loads(value) == row and row["id"] not in seen:
                            seen.add(row["id"])
                            yield partition, offset, row
    finally:
        log.close()
    assert seen == set(rows), "every row of the file arrived"


def named(value: bytes | None) -> list[str]:
    """The id in the record, where it is a JSON object that has one."""
    try:
        found = json.loads(value or b"")
    except ValueError:
        return []
    return [found["id"]] if isinstance(found, dict) else []


def mean(values: list[int]) -> Decimal | None:
    """The mean as views round it: once, half away from zero."""
    if not values:
        return None
    exact = Decimal(sum(values)) / Decimal(len(values))
    return exact.quantize(Decimal("0.000001"), ROUND_HALF_UP)


def answers(groups: dict[Group, list[Flight]]) -> dict[Group, tuple[Any, ...]]:
    return {
        group: (
            len(rows),
            mean([int(r["dep_delay"] is None) for r in rows]),
            mean([r["dep_delay"] for r in rows if r["dep_delay"] is not None]),
        )
        for group, rows in groups.items()
    }


def sky(hour: dict[str, str] | None) -> str | None:
    if hour is None:
        return None
    if Decimal(hour["visib"]) < 3:
        return "poor visibility"
    if Decimal(hour["precip"]) > 0:
        return "rain or snow"
    return None if hour["wind_speed"] == "NA" else "wind" if float(hour["wind_speed"]) >= 20 else "fair"


def hold_to_its_words(commands: Commands, out: str) -> None:
    """What it says in the end, and leaves: a chart, a lake with the rejected records, logs, and no process."""
    ends = [line.split("  ", 1) for line in out.splitlines() if re.match(r"[\d,]+ differences  ", line)]
    assert [(found, how.split(",")[0]) for found, how in ends] == [
        ("0 differences", "audit while events arrived"),
        ("0 differences", "audit by the layers' kernels"),
        ("0 differences", "audit by an independent plain-Python f"),
    ]
    result = commands.folder / "result"
    assert drawn(result / "demo.png") == EVERYTHING
    files = list((commands.folder / "lake" / "rejected").rglob("*.parquet"))
    reasons = [r for f in files for r in pq.read_table(f).column("reason").to_pylist()]
    assert reasons and all(reasons) and any(str(f.relative_to(commands.folder)) in out for f in files)
    assert out.count("each is accounted for") == 2
    logs = {"speed.log", "night-1.log", "night-2.log", "init.log", "load.log", "load-carriers.log", "feed.log"}
    assert logs <= {p.name for p in (result / "logs").iterdir()}
    assert "\x1b" not in out
    assert commands.processes() == [], "everything that was started has ended"
    again, _, said = commands.run("watershed", "demo", "--quick", "--out", "result")
    assert again == 1 and "is not empty" in said and "Traceback" not in said


@pytest.mark.slow
@NEEDS_PROC
def test_the_demo_ends_with_0_differences_and_delays_are_sums_of_the_files_rows_under_the_names_in_force(
    commands: Commands, embedded_postgres_url: str
) -> None:
    with EmbeddedBroker() as broker:
        given = {"KAFKA": broker.bootstrap, "POSTGRES": embedded_postgres_url, "LAKE": str(commands.folder / "lake")}
        commands.environment |= {f"WATERSHED_{name}": value for name, value in given.items()}
        code, out, err = commands.run("watershed", "demo", "--quick", "--out", "result")
        assert code == 0, out + err
        hold_to_its_words(commands, out)
        arrived = list(accepted(broker.bootstrap))
    database = engine(embedded_postgres_url)
    with database.connect() as connection:

        def ask(query: str) -> list[tuple[Any, ...]]:
            return [tuple(row) for row in connection.exec_driver_sql(query)]

        [(cut, version)] = ask(
            "SELECT number, version FROM ops.adoptions WHERE table_name = 'carriers' AND version > 1"
        )
        [(offsets,)] = ask(f"SELECT offsets FROM ops.cuts WHERE topic = 'flights' AND number = {cut}")
        names = dict(ask("SELECT carrier, name FROM tables.carriers"))
        delays = ask(
            'SELECT "carrier.name", window_start::date::text, flights, cancelled_share, departure_delay_mean, seats FROM serving.delays'
        )
        skies = ask(
            'SELECT "airport.name", sky, window_start::date::text, flights, cancelled_share, departure_delay_mean'
            " FROM serving.delays_by_weather"
        )
    database.dispose()
    data = commands.folder / "result" / "data"
    planes, airports = read(data / "planes.csv", "tailnum"), read(data / "airports.csv", "faa")
    hours = read(data / "weather.csv", "origin", "time_hour")

    by_name, by_sky = defaultdict[Group, list[Flight]](list), defaultdict[Group, list[Flight]](list)
    for partition, offset, row in arrived:
        name, day = names[row["carrier"]], row["time_hour"][:10]
        if row["carrier"] == RENAMED.carrier and offset < offsets[partition]:
            name = RENAMED.before
        by_name[name, day].append(row)
        by_sky[airports[row["origin"],]["name"], sky(hours.get((row["origin"], row["time_hour"]))), day].append(row)
    assert {tuple(row[:2]): tuple(row[2:5]) for row in delays} == answers(by_name)
    assert {tuple(row[:3]): tuple(row[3:]) for row in skies} == answers(by_sky)
    seats = {
        group: sum(int(planes[r["tailnum"],]["seats"]) for r in rows if (r["tailnum"],) in planes)
        for group, rows in by_name.items()
    }
    assert {tuple(row[:2]): int(row[5] or 0) for row in delays} == seats

    assert version == 2 and names[RENAMED.carrier] == RENAMED.after, "tables.carriers is the version that was adopted"
    under = {name: sum(row[2] for row in delays if row[0] == name) for name in (RENAMED.before, RENAMED.after)}
    assert min(under.values()) > 0 and sum(under.values()) == sum(
        row["carrier"] == RENAMED.carrier for _, _, row in arrived
    )
    assert (
        f"{under[RENAMED.before]:,} flights of US are served as 'US Airways Inc.', and {under[RENAMED.after]:,}," in out
    )
