"""Rejected rows of loads and feeds from the shell: shown, taken through once after a mend, killed anywhere, and counted."""

from __future__ import annotations

import json
import signal
from collections import Counter
from typing import Any

import pytest

from tests.end_to_end.test_feeds import OF_FEEDS, ids
from tests.end_to_end.test_tables import OF_LOADS
from tests.support.system import System

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

OF_ROW_REPLAYS = ["replay.kept"]
MODULE = '''
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated

from ingestion import Feed, Files
from pipeline import Between, Count, Lookup, Scale, Source, Sum, Table, View, tumbling


@dataclass(frozen=True)
class Shop:
    """A shop."""

    shop: str
    size: Annotated[int, Between(0, {most})]


@dataclass(frozen=True)
class Order:
    """An order."""

    id: str
    shop: str
    at: datetime
    amount: Annotated[Decimal, Scale(2), Between(0, {most})]


shops = Table("shops", Files("shops.csv"), Shop, ("shop",))
orders = Source({topic!r}, Order, key="shop", event_time="at", identity=None)
daily = View(
    "daily", orders, lookups={{"shop": Lookup(shops, on={{"shop": "shop"}})}}, key=("shop.size",), window=tumbling(days=1),
    aggregates={{"n": Count(), "total": Sum("amount")}},
)
VIEWS, TABLES = (daily,), (shops,)
FEEDS = (Feed("orders." + {topic!r}, Files("in/*.csv"), orders),)
'''


def rule(system: System, most: int) -> None:
    system.define(MODULE.format(topic=system.topic, most=most))


def shown(system: System, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(system.run("rejected", "--json", *arguments).stdout)
    return found


def write(system: System, count: int) -> None:
    """Shops and orders, of which those above 10 are beyond the strict rule, one each a rise of it."""
    (system.folder / "in").mkdir()
    lines = [f"o{n},s{n},2024-01-01T00:00:00Z,{n}" for n in range(count)]
    (system.folder / "in" / "a.csv").write_text("\n".join(["id,shop,at,amount", *lines, "broken"]) + "\n")
    rows = [f"s{n},{n}" for n in range(count)]
    (system.folder / "shops.csv").write_text("\n".join(["shop,size", *rows, "broken"]) + "\n")


def killed(system: System, at: str, *arguments: str) -> None:
    died = system.run(*arguments, check=False, WATERSHED_CRASH=at)
    assert died.returncode == -signal.SIGKILL, (at, died.stdout, died.stderr)


def test_killed_anywhere_replays_of_a_table_and_a_feed_take_each_row_once_and_both_layers_agree(system: System) -> None:
    points = [*OF_ROW_REPLAYS, *OF_FEEDS]
    count = 11 + max(len(points), len(OF_LOADS))
    rule(system, 10)
    write(system, count)
    feed = f"orders.{system.topic}"
    system.run("load")
    system.run("init", "--partitions", "2")
    system.run("feed")
    assert shown(system)["tables"][0]["total"] == shown(system)["feeds"][0]["total"] == count - 11 + 1
    for round_number, (of_feed, of_table) in enumerate(zip([*points, "", ""], OF_LOADS, strict=True)):
        rule(system, 11 + round_number)  # one row more is accepted by it
        replay = ["replay", "--yes", "--table", "shops"]
        killed(system, of_table, *replay)
        said = system.run(*replay).stdout
        ended = of_table not in ("load.written", "load.noted")
        assert ("of a replay that was ended, is adopted and shown now" in said) == ended, (of_table, said)
        sizes = [row["size"] for row in system.query("SELECT size FROM tables.shops ORDER BY size")]
        assert sizes == list(range(12 + round_number)), (of_table, said)
        assert shown(system, "--table", "shops")["tables"][0]["total"] == count - 11 - round_number
        replay = ["replay", "--yes", "--feed", feed]
        if of_feed:
            killed(system, of_feed, *replay)
        system.run(*replay)
        assert ids(system) == Counter(f"o{n}" for n in range(12 + round_number)), of_feed
        (found,) = shown(system, "--feed", feed)["feeds"]
        assert found["total"] + found["replayed"] >= count - 11 + 1 and found["total"] == count - 11 - round_number
    facts = [json.loads(row["manifest"])["facts"] for row in system.query("SELECT manifest FROM ops.table_versions")]
    added = sum(one["counts"]["added"] for one in facts)
    assert added + shown(system, "--table", "shops")["tables"][0]["total"] == count + 1, (
        "each row is added once, or open"
    )
    rule(system, 10)
    system.catch_up()
    system.assert_exact()


def test_a_person_sees_the_rows_and_the_plan_and_mends_one_by_a_file(system: System) -> None:
    rule(system, 10)
    write(system, 13)
    system.run("load", "shops")
    system.run("init", "--partitions", "1")
    feed = f"orders.{system.topic}"
    assert "has sent nothing yet" in system.run("replay", "--feed", feed, check=False).stderr
    system.run("feed")
    text = " ".join(system.run("rejected", COLUMNS="80").stdout.split())
    for word in (
        "3 rejected rows of table shops",
        f"3 rejected rows of feed {feed}",
        "line 13",
        "version 1",
        "breaks Between",
    ):
        assert word in text, text
    assert all(len(line) <= 80 for line in system.run("rejected", "--table", "shops", COLUMNS="80").stdout.split("\n"))
    assert shown(system, "--table", "shops", "--reason", "BETWEEN", "--limit", "1")["tables"][0]["total"] == 2
    assert shown(system, "--table", "shops", "--since", "2100-01-01")["tables"][0]["rows"] == []
    part = str(system.folder / "shops.csv")
    one = ("replay", "--table", "shops", "--part", shown(system)["tables"][0]["rows"][0]["part"], "--row", "15")
    dry = system.run(*one, "--dry-run").stdout
    assert "0 of 1 rejected rows to take" in dry and "give it mended, with --file" in dry, (part, dry)
    (system.folder / "mended.csv").write_text("shop,size\ns99,9\n")
    assert "nobody can be asked here" in system.run(*one, "--file", "mended.csv", check=False).stderr
    done = system.run(*one, "--file", "mended.csv", "--yes").stdout
    assert "version 2: in 1 = 1 added" in done and "is in force in" in done
    assert {row["shop"] for row in system.query("SELECT shop FROM tables.shops WHERE size = 9")} == {"s9", "s99"}
    wrong = system.run("replay", "--table", "shops", "--offset", "1", check=False)
    assert wrong.returncode == 1 and "--part, --row and --file" in wrong.stderr
    assert "there is no table 'shop'" in system.run("rejected", "--table", "shop", check=False).stderr
    assert "there is no feed 'x'" in system.run("replay", "--feed", "x", check=False).stderr


def history(system: System, *arguments: str) -> list[dict[str, Any]]:
    found: dict[str, Any] = json.loads(system.run("history", "--json", *arguments).stdout)
    return list(found["events"])


def test_history_says_which_version_of_what_was_made_from_what(system: System) -> None:
    rule(system, 10)
    write(system, 13)
    system.run("load", "shops", "--name", "first")
    system.run("init", "--partitions", "1")
    feed = f"orders.{system.topic}"
    system.run("feed")
    system.catch_up()
    system.night("2024-03-01")
    rule(system, 12)
    system.run("replay", "--table", "shops", "--yes")
    system.run("replay", "--feed", feed, "--yes")
    rule(system, 10)
    system.night("2024-03-02")
    second, first = history(system, "shops")
    assert (first["version"], first["load"], first["mode"], first["replay"]) == (1, "first", "Full()", False)
    size = (system.folder / "shops.csv").stat().st_size
    assert first["files"][0]["bytes"] == size and first["files"][0]["name"].endswith("shops.csv")
    assert (first["counts"]["read"], first["counts"]["added"], first["counts"]["rejected"]) == (14, 11, 3)
    assert (second["replay"], second["base"], second["counts"]["added"], second["views"]) == (True, 1, 2, ["daily"])
    assert [cut["night"] for cut in first["nights"]] == ["2024-03-01"] and first["adopted"][0]["number"] == 0
    assert [cut["night"] for cut in second["nights"]] == ["2024-03-02"] and second["adopted"][0]["offsets"] == [12]
    assert (first["attempts"], first["retries"]) == (1, 0)
    assert first["definition"] != second["definition"], "the rule was another"
    nights = history(system, system.topic)
    assert [(one.get("night"), one["status"]) for one in nights] == [
        ("2024-03-02", "published"), (None, "adopted"), ("2024-03-01", "published"), (None, "purged"),
    ]  # fmt: skip
    assert nights[1]["adopted"] == {"shops": 2}
    assert nights[2]["counts"] == {"accepted": 11, "duplicates": 0, "rejected": 0, "tombstones": 0}
    late = nights[0]["counts"]
    assert late == {"accepted": 0, "duplicates": 0, "rejected": 2, "tombstones": 0}, "the strict rule is in force again"
    newest, *_ = history(system, "daily")
    assert newest["tables"] == {"shops": 2} and newest["night"] == "2024-03-02" and newest["counts"]["folded"] == 11
    assert newest["log"][0] == nights[2]["offsets"] and newest["log"][1] == nights[0]["offsets"]
    (last, *_) = history(system, feed)
    assert last["counts"] == {"in": 14, "sent": 13, "rejected": 1}
    everything = history(system, "--limit", "3")
    assert everything[0]["kind"] == "topic" and len(everything) == 3
    assert [one["at"] for one in everything] == sorted((one["at"] for one in everything), reverse=True)
    for dataset in ((), ("shops",), ("daily",), (system.topic,), (feed,)):
        text = system.run("history", *dataset, COLUMNS="80").stdout
        assert all(len(line.rstrip()) <= 80 for line in text.split("\n")), text
        assert "2024-03-02" in text or dataset == (feed,), text
    refused = system.run("history", "shop", check=False)
    assert refused.returncode == 1 and "Did you mean" in refused.stderr
    assert system.run("history", "nothing", check=False).returncode == 1
