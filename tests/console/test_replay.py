"""`watershed rejected` and `watershed replay` on real Kafka and Postgres: once each, whoever is killed when, and exact afterwards."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaProducer

from pipeline.log.kafka.log import KafkaLog
from tests.support.forking import popen
from tests.support.system import System, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
OF_REPLAYS = ["replay.begun", "replay.sent", "replay.committed", "replay.marked"]
MODULE = """
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated
import pyarrow.compute as pc
from pipeline import Between, Count, Derived, Scale, Source, Sum, View, tumbling

@dataclass(frozen=True)
class Order:
    id: str
    shop: str
    at: datetime
    amount: Annotated[int, Between(0, {most})]

orders = Source(topic={topic!r}, record=Order, key="shop", event_time="at", identity="id")
shop_days = View(name="shop_days", source=orders, key=("shop",), window=tumbling(days=1),
                 aggregates={{"orders": Count(), "amount": Sum("amount")}})
shares = View(name="shares", source=orders, key=("shop",), window=tumbling(days=1),
              derive={{"share": Derived(pc.scalar(100.0) / (pc.field("amount") - 50), Scale(2))}},
              aggregates={{"share": Sum("share")}})
VIEWS = (shop_days, shares)
"""
Records = list[dict[str, Any]]


def event(id: str, amount: Any = 1, shop: str = "north") -> bytes:
    return json.dumps({"id": id, "shop": shop, "at": "2024-03-01T10:00:00Z", "amount": amount}).encode()


def log_of(system: System, partition: int = 0) -> Records:
    """Every record of a partition that a reader sees."""
    log = KafkaLog(system.kafka)
    blocks = [
        block.batch.to_pylist()
        for block in log.read(system.topic, partition, 0, log.end_offsets(system.topic)[partition])
    ]
    log.close()
    return [row for rows in blocks for row in rows]


def copies(system: System, offset: int, partition: int = 0) -> Records:
    """Records that say they are a replay of this one."""
    wanted = {"key": "watershed-replay-of", "value": f"{system.topic}/{partition}/{offset}".encode()}
    return [row for row in log_of(system, partition) if wanted in row["headers"]]


def rejected(system: System, *arguments: str) -> dict[str, Any]:
    (found,) = json.loads(system.run("rejected", "--json", "--limit", "100", *arguments).stdout)["topics"]
    return found


def places(found: dict[str, Any]) -> list[tuple[int, int, str | None]]:
    return sorted((r["partition"], r["offset"], r["view"]) for r in found["records"])


def prepare(system: System) -> None:
    """Rejections of every sort, below a cut and above it."""
    system.define(MODULE.format(topic=system.topic, most=100))
    system.run("init", "--partitions", "2")
    producer = KafkaProducer(bootstrap_servers=system.kafka)
    producer.send(system.topic, b'{"id": "c", "shop": "nor', key=b"north", partition=0, headers=[("trace", b"t-1")])
    producer.close()
    system.produce([(0, b"north", event("a")), (0, b"north", event("b", 500))])
    system.produce([(1, b"s", event("d", 50, "s")), (1, b"s", b'\xff{"id": 1}'), (1, b"s", event("e", 2, "s"))])
    system.night("2024-03-02")
    system.produce(
        [(0, b"north", event("f", "many " + "x" * 500)), (1, b"s", event("g", 50, "s")), (0, b"north", event("a"))]
    )
    system.catch_up()


def check_listing(system: System) -> None:
    """All of them are listed, with what the filters leave of them."""
    every = rejected(system)
    assert places(every) == [(0, 0, None), (0, 2, None), (0, 3, None), (1, 0, "shares"), (1, 1, None), (1, 3, "shares")]
    by_place = {(r["partition"], r["offset"]): r for r in every["records"]}
    assert by_place[0, 2]["reason"] == "amount: breaks Between(low=0, high=100)"
    assert by_place[0, 3]["value"].count("x") == 500 and by_place[1, 1]["value_base64"] == "/3siaWQiOiAxfQ=="
    assert by_place[1, 0]["value"] == event("d", 50, "s").decode(), "a view's rejection has its record's bytes"
    counted = {row["partition"]: row["rejected"] for row in system.query("SELECT * FROM serving.accounting")}
    assert counted == {0: 3, 1: 1} and every["total"] == 6
    assert places(rejected(system, "--reason", "BETWEEN")) == [(0, 2, None)]
    assert places(rejected(system, "--view", "shares")) == [(1, 0, "shares"), (1, 3, "shares")]
    assert rejected(system, "--since", "2999-01-01")["total"] == 0
    shown = system.run("rejected", COLUMNS="80").stdout
    assert max(map(len, shown.splitlines())) <= 80 and "x" * 60 not in shown
    assert "6 rejected of" in " ".join(shown.split())


def mend_the_rule(system: System) -> None:
    """The rebuild takes the record in where it stands, and nothing of it is to be replayed."""
    system.define(MODULE.format(topic=system.topic, most=1000))
    refused = system.run("rejected", check=False)
    assert (
        refused.returncode == 1 and "watershed init --rebuild" in refused.stderr and "Traceback" not in refused.stderr
    )
    system.run("init", "--rebuild")
    system.catch_up()
    assert (0, 2, None) not in places(rejected(system))
    said = system.run("replay", "--dry-run").stdout
    assert (
        "0 rejected records to send, 5 are not sent" in said and "would be rejected again: amount: text where" in said
    )
    assert "view shares alone rejected it" in said and "init --rebuild" in said


def mend_the_data(system: System, mended: Path) -> None:
    """Sent once, as a new record of the same partition, with its key, its headers and its origin."""
    mended.write_bytes(event("c", 7) + b"\n")
    said = system.run("replay", "--partition", "0", "--offset", "0", "--value", str(mended), "--yes").stdout
    assert "1 records sent again" in said
    (copy,) = copies(system, 0)
    assert (copy["key"], copy["value"]) == (b"north", event("c", 7))
    assert copy["headers"][0] == {"key": "trace", "value": b"t-1"} and len(copy["headers"]) == 2
    again = system.run("replay", "--partition", "0", "--offset", "0", "--value", str(mended), "--yes").stdout
    assert f"it was replayed already: offset {copy['offset']}" in again and len(copies(system, 0)) == 1
    assert "replayed with another value" in system.run("rejected").stdout
    system.catch_up()
    system.assert_exact()


def send_without_a_mend(system: System) -> None:
    """The copy is rejected again, and says of what it is a replay; it is never sent a third time."""
    assert (
        "1 records sent again" in system.run("replay", "--anyway", "--partition", "0", "--offset", "3", "--yes").stdout
    )
    system.night("2024-03-03")
    system.assert_exact()
    (copy,) = copies(system, 3)
    (again_rejected,) = [
        r for r in rejected(system)["records"] if r["offset"] == copy["offset"] and r["partition"] == 0
    ]
    assert again_rejected["replay_of"] == f"{system.topic}/0/3"
    said = system.run("replay", "--anyway", "--partition", "0", "--offset", str(copy["offset"]), "--yes").stdout
    assert "0 rejected records to send" in said and f"a replay itself, of {system.topic}/0/3" in said


def test_what_was_rejected_is_listed_mended_and_replayed_once_and_stays_exact(system: System, tmp_path: Path) -> None:
    prepare(system)
    check_listing(system)
    mend_the_rule(system)
    before = len(log_of(system)), len(log_of(system, 1))
    mend_the_data(system, tmp_path / "mended.json")
    send_without_a_mend(system)
    assert (len(log_of(system)), len(log_of(system, 1))) == (before[0] + 2, before[1])
    accounting = system.query(
        "SELECT sum(accepted) a, sum(duplicates) d, sum(rejected) r, sum(tombstones) t FROM serving.accounting"
    )
    assert [int(v) for v in accounting[0].values()] == [6, 1, 4, 0], "every record that was sent is counted once"
    assert sum(accounting[0].values()) == sum(before) + 2
    (row,) = system.query("SELECT orders, amount FROM serving.shop_days WHERE shop = 'north'")
    assert (row["orders"], row["amount"]) == (3, 508)


def start(system: System, records: int) -> None:
    """Rejected records in one partition, below the cut."""
    system.define(MODULE.format(topic=system.topic, most=100))
    system.run("init", "--partitions", "1")
    system.produce((0, b"north", event(f"r{n}", "none")) for n in range(records))
    system.night("2024-03-02")


def test_a_replay_killed_anywhere_is_finished_by_the_next_one_and_sends_nothing_twice(system: System) -> None:
    start(system, len(OF_REPLAYS))
    for offset, at in enumerate(OF_REPLAYS):
        one = ("replay", "--anyway", "--yes", "--partition", "0", "--offset", str(offset))
        died = system.run(*one, check=False, WATERSHED_CRASH=at)
        assert died.returncode == -signal.SIGKILL, f"{at}: {died.stdout}{died.stderr}"
        landed = at in ("replay.committed", "replay.marked")
        if landed:
            assert len(copies(system, offset)) == 1
            assert "begun and not finished" in " ".join(system.run("rejected").stdout.split())
        said = system.run(*one).stdout
        assert ("had been sent already" if landed else "1 records sent again") in said, (at, said)
        (copy,) = copies(system, offset)
        assert system.query('SELECT sent_offset FROM ops.replays WHERE "offset" = :o', o=offset) == [
            {"sent_offset": copy["offset"]}
        ]
        assert "it was replayed already" in system.run(*one).stdout
    system.catch_up()
    assert rejected(system)["total"] == 2 * len(OF_REPLAYS)
    system.assert_exact()


def test_of_two_replays_at_once_one_sends_also_when_the_other_has_lost_its_lock(system: System) -> None:
    start(system, 1)
    one = ["replay", "--anyway", "--yes"]
    command = [sys.executable, "-m", "watershed", *one]
    log = (system.folder / "stopped.log").open("w+")
    stopped = popen(
        command,
        {**system.environment, "WATERSHED_CRASH": "replay.sent:1:stop"},
        cwd=system.folder,
        text=True,
        stdout=log,
        stderr=log,
    )
    system.children.append(stopped)
    held = (
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'watershed replay' AND state = 'idle in transaction'"
    )
    wait_for(
        lambda: Path(f"/proc/{stopped.pid}/stat").read_text().split(") ")[1][0] == "T", "it stops before it commits"
    )
    refused = system.run(*one, check=False)
    assert refused.returncode == 1 and "another replay of topic" in refused.stderr and "Traceback" not in refused.stderr
    assert copies(system, 0) == [], "its transaction is open"
    (backend,) = system.query(held)
    system.query("SELECT pg_terminate_backend(:pid)", pid=backend["pid"])
    # At once: it aborts what is open, and does not wait for its end.
    assert "1 records sent again" in system.run(*one, WATERSHED_START_PATIENCE_S="3").stdout
    stopped.send_signal(signal.SIGCONT)
    assert stopped.wait(timeout=60) == 1
    log.seek(0)
    said = log.read()
    log.close()
    assert "Traceback" not in said and "sent again: offset" not in said, said
    assert len(copies(system, 0)) == 1
    system.catch_up()
    system.assert_exact()


def test_a_replay_waits_for_what_an_open_transaction_hides(system: System) -> None:
    start(system, 1)
    other = KafkaProducer(bootstrap_servers=system.kafka, transactional_id=f"other-{system.topic}")
    other.init_transactions()
    other.begin_transaction()
    other.send(system.topic, key=b"north", value=event("other"), partition=0).get(timeout=10)
    one = ["replay", "--anyway", "--yes"]
    died = system.run(*one, check=False, WATERSHED_CRASH="replay.committed")
    assert died.returncode == -signal.SIGKILL
    refused = system.run(*one, check=False, WATERSHED_START_PATIENCE_S="1")
    assert refused.returncode == 1 and "a transaction of another producer is open" in refused.stderr, refused.stderr
    other.commit_transaction()
    other.close()
    assert "had been sent already" in system.run(*one).stdout
    assert len(copies(system, 0)) == 1
    system.catch_up()
    system.assert_exact()


WRONG = {
    ("replay", "--partition", "0"): "--offset 0 times",
    ("replay", "--value", "nothing.json"): "one record's value",
    ("replay", "--value", "nothing.json", "--partition", "0", "--offset", "1"): "cannot be read",
    ("replay", "--since", "yesterday"): "2024-03-01",
    ("replay", "--topic", "nothing"): "there is no topic",
    ("rejected", "--view", "nothing"): "there is no view",
    ("rejected", "--since", "13"): "is no time",
    ("rejected",): "watershed init",
    ("replay",): "watershed init",
}


def test_what_can_be_mended_is_one_line(system: System) -> None:
    for arguments, said in WRONG.items():
        done = system.run(*arguments, check=False)
        assert done.returncode == 1 and said in done.stderr and "Traceback" not in done.stderr, (arguments, done.stderr)
    system.run("init", "--partitions", "1")
    system.produce([(0, b"k", b"{}")])
    system.catch_up()
    done = system.run("replay", "--anyway", check=False)
    assert done.returncode == 1 and "--yes" in done.stderr, "nobody is there to be asked"
    assert "nothing" not in system.run("replay").stdout
    assert len(log_of(system)) == 1
