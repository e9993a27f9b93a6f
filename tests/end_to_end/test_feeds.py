"""Feeds on real Kafka: each row once, whatever is killed when, and both layers agree on what was sent."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer, TopicPartition

from tests.support.forking import popen
from tests.support.secured import Secured
from tests.support.system import System, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

OF_FEEDS = ("feed.sent", "feed.offsets", "feed.before_commit", "feed.after_commit")
KILLS = 10  # at each of them
ROWS, BATCH = 6_000, 40
HEAD = "id,shop,at,amount\n"
VIEWS = '''
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated

from ingestion import Feed, Files
from pipeline import Between, Count, Scale, Source, Sum, View, tumbling


@dataclass(frozen=True)
class Order:
    """An order."""

    id: str
    shop: str
    at: datetime
    amount: Annotated[Decimal, Scale(2), Between(0, 100_000)]


orders = Source({topic!r}, Order, key="shop", event_time="at", identity={identity})
daily = View("daily", orders, key=("shop",), window=tumbling(days=1), aggregates={{"n": Count(), "total": Sum("amount")}})
VIEWS = (daily,)
FEEDS = (Feed("orders." + {topic!r}, Files("in/*.csv"), orders),)
'''


def line(n: int) -> str:
    amount = "-1" if n % 100 == 7 else f"{n % 1000}.25"
    return f"o{n},shop{n % 13},2024-01-{n % 28 + 1:02d}T00:00:00Z,{amount}\n"


def write(system: System, name: str, numbers: range) -> None:
    """A file of rows, there at once."""
    folder = system.folder / "in"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.new").write_text(HEAD + "".join(map(line, numbers)))
    (folder / f"{name}.new").rename(folder / f"{name}.csv")


def good(numbers: range) -> list[str]:
    return [f"o{n}" for n in numbers if n % 100 != 7]


@pytest.fixture
def shop(system: System) -> System:
    """A system whose source has no identity: a row that is sent twice would count twice."""
    system.define(VIEWS.format(topic=system.topic, identity=None))
    system.run("init", "--partitions", "3")
    return system


def committed(system: System) -> list[tuple[int, bytes, dict[str, Any]]]:
    """(partition, key, event) of every committed record, by partition and offset."""
    consumer = KafkaConsumer(
        bootstrap_servers=system.kafka, isolation_level="read_committed", auto_offset_reset="earliest"
    )
    found: list[tuple[int, bytes, dict[str, Any]]] = []
    try:
        for partition in sorted(consumer.partitions_for_topic(system.topic)):
            at = TopicPartition(system.topic, partition)
            consumer.assign([at])
            end = consumer.end_offsets([at])[at]
            consumer.seek_to_beginning(at)
            while consumer.position(at) < end:
                for record in consumer.poll(timeout_ms=200).get(at, ()):
                    found.append((partition, record.key, json.loads(record.value)))
    finally:
        consumer.close()
    return found


def ids(system: System) -> Counter[str]:
    return Counter(event["id"] for _, _, event in committed(system))


def fed(system: System, *arguments: str, **environment: str) -> dict[str, Any]:
    """The one document of `watershed feed --json`."""
    found: dict[str, Any] = json.loads(system.run("feed", "--json", *arguments, **environment).stdout)["feeds"][0]
    return found


def test_killed_at_every_crash_point_a_feed_loses_nothing_and_sends_nothing_twice(
    shop: System, say: Callable[[str], None]
) -> None:
    write(shop, "a", range(ROWS // 2))
    write(shop, "b", range(ROWS // 2, ROWS))
    kills: Counter[str] = Counter()
    for n in range(KILLS):
        for at in OF_FEEDS:
            done = shop.run("feed", "--batch", str(BATCH), check=False, WATERSHED_CRASH=f"{at}:{n % 3 + 1}")
            assert done.returncode == -signal.SIGKILL, f"it did not die at {at}: {done.stdout}{done.stderr}"
            kills[at] += 1
    halfway = ids(shop)
    assert 0 < len(halfway) < len(good(range(ROWS))), "there was something left to send after each kill"
    last = fed(shop, "--batch", str(BATCH))
    assert last["in"] == last["sent"] + last["rejected"]
    assert ids(shop) == Counter(good(range(ROWS)))
    of_shops: dict[str, list[int]] = {}
    for _, key, event in committed(shop):
        assert key == event["shop"].encode()
        of_shops.setdefault(event["shop"], []).append(int(event["id"][1:]))
    assert all(numbers == sorted(numbers) for numbers in of_shops.values()), "rows of a key are in the files' order"
    assert fed(shop)["in"] == 0
    assert min(kills.values()) >= KILLS and set(kills) == set(OF_FEEDS)
    say(
        f"feeds: {sum(kills.values())} kills, {', '.join(f'{n} at {at}' for at, n in kills.items())}; each of {ROWS:,} rows once"
    )


def test_two_feeds_at_once_the_first_is_fenced_and_each_row_is_there_once(shop: System) -> None:
    write(shop, "a", range(1_000))
    log = (shop.folder / "first.log").open("w")
    command = [sys.executable, "-m", "watershed", "feed", "--batch", "100"]
    environment = {**shop.environment, "WATERSHED_CRASH": "feed.sent:3:stop"}
    with log, popen(command, environment, cwd=shop.folder, text=True, stdout=log, stderr=log) as first:
        wait_for(lambda: _stopped(first), "the first one stands in the middle of a transaction", 90)
        second = fed(shop, "--batch", "100")
        first.send_signal(signal.SIGCONT)
        assert first.wait(timeout=90) == 1
    assert "has begun since; nothing more was sent" in (shop.folder / "first.log").read_text()
    assert second["in"] == 800
    assert ids(shop) == Counter(good(range(1_000)))


def _stopped(process: subprocess.Popen[str]) -> bool:
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def test_a_csv_goes_through_a_feed_a_worker_and_a_night_and_the_audit_finds_no_difference(system: System) -> None:
    system.define(VIEWS.format(topic=system.topic, identity="'id'"))
    system.run("init", "--partitions", "3")
    write(system, "monday", range(2_000))
    text = system.run("feed").stdout
    assert f"in 2,000 = sent 1,980 to topic {system.topic} + rejected 20" in text
    assert "monday.csv, line 9: amount: breaks Between" in text and "and 10 more" in text
    system.catch_up()
    system.night("2024-01-30")
    write(system, "tuesday", range(2_000, 3_000))
    assert fed(system)["sent"] == 990
    system.catch_up()
    system.assert_exact()
    (row,) = system.query("SELECT sum(n) AS n, sum(total) AS total FROM serving.daily")
    assert row["n"] == 2_970
    assert float(row["total"]) == sum(n % 1000 + 0.25 for n in range(3_000) if n % 100 != 7)
    assert [r["rejected"] for r in system.query("SELECT sum(rejected) AS rejected FROM serving.accounting")] == [0]


def test_following_sends_new_files_and_ends_cleanly_on_sigterm(shop: System) -> None:
    write(shop, "a", range(100))
    command = [sys.executable, "-m", "watershed", "feed", "--follow", "--every", "0.2", "--json"]
    with popen(command, shop.environment, cwd=shop.folder, text=True, stdout=subprocess.PIPE) as child:
        wait_for(lambda: len(ids(shop)) == len(good(range(100))), "the first file is sent", 60)
        write(shop, "b", range(100, 200))
        wait_for(lambda: len(ids(shop)) == len(good(range(200))), "the second file is sent", 60)
        child.send_signal(signal.SIGTERM)
        out, _ = child.communicate(timeout=30)
    assert child.returncode == 0
    assert json.loads(out)["feeds"][0]["in"] == 200
    assert ids(shop) == Counter(good(range(200)))


def test_a_feed_that_fails_leaves_the_others_alone(shop: System) -> None:
    text = VIEWS.format(topic=shop.topic, identity=None).replace(
        "FEEDS = (", 'FEEDS = (Feed("gone", Files("no/x.csv"), orders), '
    )
    shop.define(text)
    write(shop, "a", range(100))
    done = shop.run("feed", check=False)
    assert done.returncode == 1 and "there is no file" in done.stderr and "Traceback" not in done.stderr
    assert ids(shop) == Counter(good(range(100)))


def test_without_its_rights_a_feed_names_the_acl_and_with_them_it_sends(
    secured_system: System, secured: Secured
) -> None:
    system, user = secured_system, "worker"
    system.define(VIEWS.format(topic=system.topic, identity=None))
    system.run("init", "--partitions", "3")
    write(system, "a", range(100))
    named = "Create on topic", "DescribeConfigs on topic", "Write on transactional-id", "Write on topic"
    cursors = [(operation, "topic", "watershed.feeds") for operation in ("Create", "Read", "Write", "DescribeConfigs")]
    first, second = cursors[:3], cursors[3:]
    own = [("Write", "topic", system.topic), ("Write", "transactional_id", f"watershed-feed-orders.{system.topic}")]
    found = []
    for rights in ([], first, second, own[1:], own[:1]):
        secured.allow(user, rights) if rights else None
        done = system.run("feed", check=False)
        assert "Traceback" not in done.stderr
        found.append((done.returncode, done.stderr))
    assert [code for code, _ in found] == [1, 1, 1, 1, 0], found
    for (_, said), name in zip(found, named, strict=False):
        operation, kind = name.split(" on ")
        assert f"the operation {operation} on {kind} '" in said, said
    assert system.run("feed").stdout.startswith(f"orders.{system.topic}: in 0 = sent 0")


def test_ingest_sends_each_file_once_and_standard_input_whenever_it_comes(shop: System) -> None:
    write(shop, "a", range(300))
    for expected in (300, 0):
        found = json.loads(shop.run("ingest", shop.topic, "in/a.csv", "--json").stdout)["files"]
        assert [(one["in"], one["sent"] + one["rejected"]) for one in found] == [(expected, expected)]
    lines = "".join(
        json.dumps({"id": f"s{n}", "shop": "x", "at": "2024-01-01T00:00:00Z", "amount": n}) + "\n" for n in range(5)
    )
    command = [sys.executable, "-m", "watershed", "ingest", shop.topic, "-"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with popen(command, shop.environment, cwd=shop.folder, text=True, **pipes) as child:
        out, _ = child.communicate(lines + "{broken\n", timeout=90)
    assert child.returncode == 0 and "in 6 = sent 5" in out and "line 6" in out
    assert ids(shop) == Counter([*good(range(300)), *(f"s{n}" for n in range(5))])


def test_what_cannot_be_fed_is_one_line_that_says_what_to_do(shop: System) -> None:
    write(shop, "a", range(100))
    assert "there is no feed 'x'; there are orders." in shop.run("feed", "x", check=False).stderr
    shop.run("feed")
    with (shop.folder / "in" / "a.csv").open("a") as file:
        file.write(line(100))
    done = shop.run("feed", check=False)
    assert done.returncode == 1 and "changed since it was sent" in done.stderr and "Traceback" not in done.stderr
    assert ids(shop) == Counter(good(range(100)))
    assert "there is no topic 'nope'" in shop.run("ingest", "nope", "in/a.csv", check=False).stderr
