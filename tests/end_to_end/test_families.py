"""Six families of events from the topic to the answer, by the unedited module that `watershed new` writes for each."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from pipeline.log.kafka.log import KafkaLog
from sandbox.postgres import SystemPostgres
from sandbox.schema_registry import SchemaRegistry
from tests.support.families import Family, families
from tests.support.system import System

pytestmark = pytest.mark.slow

NAMES = ("hooks", "pages", "orders", "readings", "accesses", "payments")
FORMATS = {
    "orders": "format=Debezium(Json()),",
    "readings": "format=Avro(),",
    "payments": 'format=Protobuf("shop.Payment", schema="payment.proto"),',
}
COUNTS = "SELECT topic, sum(accepted) a, sum(duplicates) d, sum(rejected) r, sum(tombstones) t FROM serving.accounting GROUP BY topic"


@dataclass
class Ran:
    """All six on one system, and what was seen on the way; audits as (step, view) -> [differences, counts] of either kind."""

    system: System
    families: dict[str, Family] = field(default_factory=dict)
    topics: dict[str, str] = field(default_factory=dict)
    modules: dict[str, str] = field(default_factory=dict)
    audits: dict[tuple[str, str], list[Any]] = field(default_factory=dict)
    tried: dict[str, dict[str, int]] = field(default_factory=dict)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)

    def send(self, part: int) -> None:
        """Produce a part of each family."""
        for name, family in self.families.items():
            self.system.topic = self.topics[name]
            self.system.produce((one.partition, one.key, one.value) for one in family.parts[part])

    def audit(self, step: str) -> None:
        """Keep what both audits find now."""
        for arguments in ((), ("--reference",)):
            for view in self.system.audit(*arguments)["views"]:
                self.audits.setdefault((step, view["view"]), []).append((view["differences"], view["counts"]))

    def draft(self, name: str) -> None:
        """`watershed new` for a family's topic."""
        for file, text in self.families[name].files.items():
            (self.system.folder / file).write_text(text)
        self.system.run("new", name, "--topic", self.topics[name], *self.families[name].options)
        self.modules[name] = (self.system.folder / f"{name}.py").read_text()


@pytest.fixture(scope="module")
def ran(
    tmp_path_factory: pytest.TempPathFactory, real_kafka: str, real_postgres: SystemPostgres, server_folder: object
) -> Iterator[Ran]:
    folder = tmp_path_factory.mktemp("families")
    with real_postgres.database("families") as url, SchemaRegistry() as registry:
        system = System(folder, real_kafka, url, "families.none")
        system.environment["WATERSHED_SCHEMA_REGISTRY"] = registry.url
        found = Ran(system)
        found.families = {one.name: one for one in families(registry.register)}
        found.topics = {name: f"families.{name}" for name in NAMES}
        log = KafkaLog(real_kafka)
        for topic in found.topics.values():
            log.create_topic(topic, 2)
        log.close()
        found.send(0)
        for name in NAMES:
            found.draft(name)
        system.define(
            "\n".join(f"from {name} import VIEWS as {name}" for name in NAMES)
            + f"\nVIEWS = ({', '.join(f'*{name}' for name in NAMES)})\n"
        )
        tried = json.loads(system.run("try", "--json").stdout)["sources"]
        found.tried = {one["topic"]: one["counts"] for one in tried}
        system.run("init")
        system.catch_up()
        system.night("2024-03-01")
        found.send(1)
        system.catch_up()
        found.audit("after the first night")
        system.night("2024-03-02")
        found.send(2)
        system.catch_up()
        found.audit("with late ones")
        system.night("2024-03-03")
        found.audit("after the last night")
        found.counts = {row["topic"]: row for row in system.query(COUNTS)}
        yield found
        system.stop_all()


@pytest.mark.parametrize("name", NAMES)
def test_a_family_goes_from_its_topic_to_an_exact_view_by_the_module_that_new_writes(ran: Ran, name: str) -> None:
    family, view = ran.families[name], f"{name}_per_hour"
    declared = [line.strip() for line in ran.modules[name].splitlines() if line.strip().startswith("format=")]
    assert declared == ([FORMATS[name]] if name in FORMATS else [])
    meant = Counter(one.meant for one in family.parts[0])
    tried = ran.tried[ran.topics[name]]
    assert tried["accepted"] + tried["duplicates"] == meant["good"] + meant["again"]
    assert (tried["rejected"], tried["tombstones"]) == (meant["broken"], meant["tombstone"])
    steps = [step for step, of in ran.audits if of == view]
    assert len(steps) == 3, "it was audited thrice"
    assert {step: ran.audits[step, view] for step in steps} == {step: [(0, []), (0, [])] for step in steps}

    good, again, broken, none = (family.meant(what).total() for what in ("good", "again", "broken", "tombstone"))
    counts = ran.counts[ran.topics[name]]
    assert sum(counts[what] for what in "adrt") == good + again + broken + none, "every record is counted"
    assert counts["t"] == none
    assert counts["a"] >= 0.9 * good and counts["d"] == (again if family.identified else 0)
    assert rejected(ran, name) >= family.meant("broken"), "nothing that is broken is accepted"
    (row,) = ran.system.query(f"SELECT sum(events) AS n FROM serving.{view}")
    assert row["n"] == counts["a"], "the view has each of them once"


def rejected(ran: Ran, name: str) -> Counter[bytes]:
    """The values that `watershed rejected` shows."""
    told = json.loads(ran.system.run("rejected", "--json", "--limit", "1000", "--topic", ran.topics[name]).stdout)
    (of,) = told["topics"]
    return Counter(
        base64.b64decode(r["value_base64"]) if "value_base64" in r else r["value"].encode() for r in of["records"]
    )
