"""Tables from the shell: loaded, adopted and looked up in both layers, changed while events arrive, killed anywhere."""

from __future__ import annotations

import json
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.log.kafka.log import KafkaLog
from sandbox.postgres import SystemPostgres
from tests.support.system import System

pytestmark = pytest.mark.slow

MODULE = """
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated
import pyarrow.compute as pc
from ingestion import Files
from pipeline import (
    Count, Derived, Incremental, Lookup, Mean, Merge, RowCount, References, Scale, Snapshot, Source, Sum, Table, Validity, View, tumbling,
)

@dataclass(frozen=True)
class Carrier:
    \"\"\"An airline.\"\"\"
    carrier: str
    name: str

@dataclass(frozen=True)
class Plane:
    tailnum: str
    carrier: str | None
    seats: int | None
    updated_at: datetime
    gone: bool

@dataclass(frozen=True)
class Price:
    carrier: str
    price: Annotated[Decimal, Scale(2)]

@dataclass(frozen=True)
class Flight:
    id: str
    carrier: str
    tailnum: str | None
    left_at: datetime
    delay: int | None

carriers = Table("carriers", origin=Files("airlines.csv"), record=Carrier, key=("carrier",), checks=(RowCount(at_least=2),))
planes = Table(
    "planes", origin=Files("planes-*.csv"), record=Plane, key=("tailnum",), load=Merge("updated_at", deleted="gone"),
    checks=(References("carrier", carriers, share=0.5),),
)
prices = Table(
    "prices", origin=Files("prices.jsonl"), record=Price, key=("carrier",), load=Snapshot(), history=Validity("since", "until"),
)
flights = Source(topic={topic!r}, record=Flight, key="carrier", event_time="left_at", identity="id")
delays = View(
    name="delays", source=flights, lookups={{"carrier": Lookup(carriers, on={{"carrier": "carrier"}})}},
    key=("carrier.name",), window=tumbling(days=1), aggregates={{"flights": Count(), "delay": Mean("delay")}},
)
by_plane = View(
    name="by_plane", source=flights,
    lookups={{
        "plane": Lookup(planes, on={{"tailnum": "tailnum"}}, required=True),
        "price": Lookup(prices, on={{"carrier": "carrier"}}, as_of="left_at"),
    }},
    derive={{"turnover": Derived(pc.field("plane", "seats") * pc.field("price", "price"), Scale(2))}},
    where=pc.field("plane", "seats") > 1,
    key=("carrier",), window=tumbling(hours=1), aggregates={{"flights": Count(), "turnover": Sum("turnover")}},
)
TABLES = (carriers, planes, prices)
VIEWS = (delays, by_plane)
"""
PLANES = "tailnum,carrier,seats,updated_at,gone\n"


class World:
    """The system, its files, and events."""

    def __init__(self, folder: Path, kafka: str, postgres: str, topic: str) -> None:
        self.system = System(folder, kafka, postgres, topic, MODULE.format(topic=topic))
        self.folder, self.rng, self.sent = folder, random.Random(topic), 0
        log = KafkaLog(kafka)
        log.create_topic(topic, 2)
        log.close()
        self.write("airlines.csv", "carrier,name\nUA,United\nAA,American\nB6,JetBlue\n")
        self.write("planes-1.csv", PLANES + "N1,UA,100,2013-01-01T00:00:00Z,false\nN2,AA,,2013-01-01T00:00:00Z,false\n")
        self.write("prices.jsonl", '{"carrier": "UA", "price": 10.5}\n{"carrier": "AA", "price": "7.25"}\n')

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def load(self, *arguments: str, check: bool = True, **environment: str) -> Any:
        done = self.system.run("load", "--json", *arguments, check=check, **environment)
        return json.loads(done.stdout) if done.stdout else None

    def fly(self, count: int) -> None:
        records = []
        for _ in range(count):
            carrier = self.rng.choice(["UA", "AA", "B6", "ZZ"])
            value = {
                "id": f"f{self.sent}", "carrier": carrier, "tailnum": self.rng.choice(["N1", "N2", "N3", None]),
                "left_at": f"2013-01-0{self.rng.randint(1, 4)}T{self.rng.randint(0, 23):02}:00:00Z",
                "delay": self.rng.choice([None, -3, 0, 12, 180]),
            }  # fmt: skip
            if self.rng.random() > 0.2:  # else it is sent twice
                self.sent += 1
            records.append((hash(carrier) % 2, carrier.encode(), json.dumps(value).encode()))
        self.system.produce(records)


@pytest.fixture
def world(
    tmp_path: Path, real_kafka: str, real_postgres: SystemPostgres, request: pytest.FixtureRequest
) -> Iterator[World]:
    topic = f"flights.{abs(hash(request.node.name)) % 10**8}"
    with real_postgres.database("tables") as url:
        made = World(tmp_path, real_kafka, url, topic)
        yield made
        made.system.stop_all()


def test_init_without_a_version_names_the_load_and_a_load_works_before_init(world: World) -> None:
    refused = world.system.run("init", check=False)
    assert refused.returncode == 1 and "next: watershed load carriers planes prices" in refused.stderr
    assert [one["version"] for one in world.load()["loads"]] == [1, 1, 1]
    world.system.run("init")
    (cut,) = world.system.query("SELECT DISTINCT number FROM ops.adoptions")
    assert cut["number"] == 0, "what is loaded before init is in force from the log's start on"
    world.fly(50)
    (tried,) = json.loads(world.system.run("try", "--json").stdout)["sources"]
    assert {one["name"]: one["counts"]["folded"] > 0 for one in tried["views"]} == {"delays": True, "by_plane": True}


def test_a_version_that_cannot_be_compared_with_the_one_before_is_made_all_the_same(world: World) -> None:
    world.write("airlines.csv", "carrier,name\nUA,1\nAA,2\n")
    system = world.system
    system.run("load", "carriers")
    changed = MODULE.format(topic=system.topic).replace(
        "    carrier: str\n    name: str\n", "    carrier: str\n    name: int\n"
    )
    system.define(changed)
    said = system.run("load", "carriers", "--diff").stdout
    assert "carriers: it cannot be compared with version 1: " in said
    assert [row["name"] for row in system.query("SELECT name FROM tables.carriers ORDER BY name")] == [1, 2]


def test_views_that_look_up_are_exact_while_their_tables_change(world: World) -> None:
    system = world.system
    world.load()
    system.run("init")
    world.fly(200)
    system.worker()
    world.fly(200)
    world.write("airlines.csv", "carrier,name\nUA,United\nAA,American Airlines\nZZ,Nobody\n")
    loads = world.load("carriers", "--diff")["loads"]
    assert loads[0]["counts"] | {"read": 3, "rows": 3} == loads[0]["counts"]
    assert (loads[0]["difference"]["added"], loads[0]["difference"]["changed"], loads[0]["difference"]["gone"]) == (
        1,
        1,
        1,
    )
    assert [one["topic"] for one in loads[0]["adopted"]] == [world.system.topic]
    world.fly(200)
    system.night("2013-01-01")
    system.assert_exact()
    world.write("planes-2.csv", PLANES + "N3,ZZ,55,2013-02-01T00:00:00Z,false\nN1,UA,9,2012-01-01T00:00:00Z,false\n")
    counts = world.load("planes")["loads"][0]["counts"]
    assert (counts["added"], counts["unchanged"], counts["duplicates"]) == (1, 2, 1), (
        "an older row of N1 counts for nothing"
    )
    world.write("prices.jsonl", '{"carrier": "UA", "price": 11}\n{"carrier": "B6", "price": 1}\n')
    counts = world.load("prices")["loads"][0]["counts"]
    assert (counts["changed"], counts["added"], counts["gone"]) == (1, 1, 1)
    world.fly(300)
    system.stop_all()
    system.catch_up()
    system.assert_exact()
    system.night("2013-01-02")
    world.fly(100)
    system.catch_up()
    system.run("rollback")
    system.catch_up()
    system.assert_exact()
    system.run("rebuild")
    system.assert_exact()
    names = {row["carrier.name"] for row in system.query('SELECT DISTINCT "carrier.name" FROM serving.delays')}
    assert names == {"United", "American", "American Airlines", "JetBlue", "Nobody", None}
    shown = system.query("SELECT * FROM tables.carriers ORDER BY carrier")
    assert [row["name"] for row in shown] == ["American Airlines", "United", "Nobody"]
    system.define(
        MODULE.format(topic=system.topic).replace(
            'key=("carrier",), window=tumbling(hours=1)', 'key=("carrier", "tailnum"), window=tumbling(hours=1)'
        )
    )
    system.run("init", "--rebuild")
    system.catch_up()
    system.assert_exact()


def test_luigis_load_is_done_once_and_a_rejected_row_is_kept_with_its_line(world: World) -> None:
    world.write("airlines.csv", "carrier,name\nUA,United\nAA,American\nB6\nUA,Untied\nAA,American\n")
    arguments = ("--module", "tasks", "Load", "--table", "carriers", "--date", "2013-01-01", "--local-scheduler")
    for _ in range(2):
        world.system.luigi_task(*arguments)
    (row,) = world.system.query(
        "SELECT version, load, exposed_at IS NOT NULL AS shown, manifest FROM ops.table_versions"
    )
    assert (row["version"], row["load"], row["shown"]) == (1, "2013-01-01", True)
    facts = json.loads(row["manifest"])["facts"]
    assert (facts["counts"]["added"], facts["counts"]["duplicates"], facts["counts"]["rejected"]) == (2, 1, 2)
    (rejected,) = [world.system.lake / path for path in facts["rejected"]]
    rows = pq.read_table(rejected).to_pylist()
    assert [row["number"] for row in rows] == [4, 5]
    assert "another row of this key says something else" in rows[1]["reason"]


@pytest.mark.parametrize(
    "text",
    ["carrier,name\n", "carrier,name\nUA,United\n", "code,title\nUA,United\nAA,American\n", "<html>Sign in</html>"],
)
def test_a_load_that_breaks_a_check_leaves_the_version_before(world: World, text: str) -> None:
    world.load("carriers")
    world.write("airlines.csv", text)
    failed = world.load("carriers", check=False)
    assert failed["loads"] == [] and failed["failed"][0]["table"] == "carriers"
    shown = world.system.query("SELECT name FROM tables.carriers ORDER BY name")
    assert [row["name"] for row in shown] == ["American", "JetBlue", "United"]
    made = world.system.query("SELECT version FROM ops.table_versions WHERE manifest IS NOT NULL")
    assert [row["version"] for row in made] == [1]


OF_LOADS = [
    "load.written",
    "load.noted",
    "load.committed",
    "load.copied",
    "adopt.written",
    "load.adopted",
    "load.exposed",
]
ROUNDS = 3


def test_a_load_killed_at_any_point_is_made_by_its_next_run_and_nothing_is_half(world: World) -> None:
    system = world.system
    world.load()
    system.run("init")
    kills = 0
    for round_number in range(ROUNDS):
        for point in OF_LOADS:
            world.fly(20)
            name = f"{point} {round_number}"
            world.write("airlines.csv", f"carrier,name\nUA,United {name}\nAA,American {name}\n")
            killed = system.run("load", "carriers", "--name", name, check=False, WATERSHED_CRASH=point)
            assert killed.returncode == -signal.SIGKILL, (point, killed.stderr)
            kills += 1
            shown = system.query("SELECT name FROM tables.carriers")
            assert len({row["name"].partition(" ")[2] for row in shown}) == 1, "the rows of one version, whichever"
            system.run("load", "carriers", "--name", name)
            rows = system.query("SELECT name FROM tables.carriers ORDER BY name")
            assert [row["name"] for row in rows] == [f"American {name}", f"United {name}"]
            of_name = system.query(f"SELECT version FROM ops.table_versions WHERE load = '{name}'")
            assert len(of_name) == 1
    assert kills == ROUNDS * len(OF_LOADS)
    system.catch_up()
    system.night("2013-01-01")
    system.assert_exact()


def test_a_night_loads_what_is_due_and_is_published_whatever_becomes_of_a_load(world: World) -> None:
    system = world.system
    text = MODULE.replace(
        'key=("tailnum",), load=Merge', 'key=("tailnum",), every=timedelta(seconds=1), after=(carriers,), load=Merge'
    ).replace('key=("carrier",), checks=(RowCount', 'key=("carrier",), every=timedelta(days=1000), checks=(RowCount')
    system.define(text.replace("import datetime\n", "import datetime, timedelta\n").format(topic=system.topic))
    world.load()
    system.run("init")
    world.fly(50)
    system.night("2013-01-01")
    versions = "SELECT table_name, version, load FROM ops.table_versions WHERE version > 1 ORDER BY version"
    assert [tuple(row.values()) for row in system.query(versions)] == [("planes", 2, "night 2013-01-01")]
    system.run("load", "planes", "--name", "2013-01-02")  # by hand, named as the night is: that one loads all the same
    (world.folder / "planes-1.csv").unlink()
    world.fly(50)
    failed = system.night("2013-01-02", check=False)
    assert (
        failed.returncode != 0 and "the night is published, and these tables were not loaded: planes" in failed.stderr
    )
    published = system.query(
        "SELECT date FROM ops.cuts JOIN ops.batches USING (topic, generation, number) WHERE status = 'published'"
    )
    assert len([row for row in published if row["date"] is not None]) == 2
    assert {row["tailnum"] for row in system.query("SELECT tailnum FROM tables.planes")} == {"N1", "N2"}
    system.assert_exact()
