"""Snapshots: rows, positions and counts of one instant, whatever happens meanwhile."""

import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from sqlalchemy.engine import Engine

from pipeline.fold.states import present, value_schema
from pipeline.handover import Committed, Counts, ViewCounts
from serving.answers import Freshness, snapshot
from serving.generations.create import install
from serving.generations.replace import PostgresGenerationStore
from serving.postgres.connection import transaction
from serving.status import status
from serving.stores.night import PostgresNightStore
from serving.stores.speed import PostgresSpeedStore
from tests.contract.world import VIEWS, commit_of, connected, event, merge, plan, staged_of, states, values

LOGS = [[event(p, o, 'ab\n,"'[o % 5], amount=Decimal(f"{o}.25"), hour=o % 4) for o in range(60)] for p in range(2)]


@pytest.fixture
def engine(postgres_url: str) -> Iterator[Engine]:
    with connected(postgres_url) as engine:
        yield engine


def test_a_snapshot_holds_every_row_in_order_with_its_schema(engine: Engine, tmp_path: Path) -> None:
    (generation,) = install(engine, [plan()])
    claim = PostgresSpeedStore(engine, VIEWS).take(generation, 1, "w", 60)
    assert claim is not None
    PostgresSpeedStore(engine, VIEWS).commit(commit_of(claim, LOGS[1], 40))
    found = snapshot(engine, VIEWS, tmp_path)
    assert found.generations == {"payments": generation}
    assert found.freshness == {"payments": [Freshness(0, 0, 0), Freshness(1, 0, 40)]}
    assert found.accounting == {"payments": [Counts(), Counts(accepted=40)]}
    assert found.view_accounting == {view.name: [ViewCounts(), ViewCounts(folded=40)] for view in VIEWS}
    for view in VIEWS:
        rows = pa.Table.from_batches(list(found.rows(view.name)), value_schema(view))
        expected = values(view, states(view, LOGS[1][:40]))  # ordered by group
        assert rows.to_pylist() == expected
        assert rows.sort_by("window_start").num_rows == present(view, states(view, LOGS[1][:40])).num_rows


def test_a_snapshot_of_nothing_has_no_rows(engine: Engine, tmp_path: Path) -> None:
    install(engine, [plan()])
    found = snapshot(engine, VIEWS, tmp_path)
    assert [list(found.rows(view.name)) for view in VIEWS] == [[], []]
    assert found.freshness == {"payments": [Freshness(0, 0, 0), Freshness(1, 0, 0)]}


def test_snapshots_are_exact_while_workers_commit_nights_publish_and_a_rebuild_takes_over(
    engine: Engine, tmp_path: Path
) -> None:
    (generation,) = install(engine, [plan()])
    speed, night = PostgresSpeedStore(engine, VIEWS), PostgresNightStore(engine, VIEWS)
    ended = threading.Event()
    failures: list[BaseException] = []

    def live() -> None:
        try:
            for number in range(1, 6):
                for p in range(2):
                    claim = speed.take(generation, p, "w", 0.0)
                    assert claim is not None
                    for _ in range(2):
                        outcome = speed.commit(commit_of(claim, LOGS[p], claim.position + 3))
                        assert isinstance(outcome, Committed)
                        claim = outcome.claim
                cut = night.choose(generation, date(2013, 1, number), (0, 0))
                night.stage(generation, number, staged_of(LOGS, cut.offsets, None))
                assert night.publish(generation, number) == "published"
            new = PostgresGenerationStore(engine).begin(plan())
            night.stage(new, 5, staged_of(LOGS, cut.offsets, None))
            night.publish(new, 5)
            PostgresGenerationStore(engine).activate(new, VIEWS)
        except BaseException as error:
            failures.append(error)
        finally:
            ended.set()

    thread = threading.Thread(target=live)
    thread.start()
    seen = set()
    while True:
        last = ended.is_set()
        found = snapshot(engine, VIEWS, tmp_path)
        positions = [fresh.position for fresh in found.freshness["payments"]]
        seen.add((found.generations["payments"].number, *(fresh[1:] for fresh in found.freshness["payments"])))
        assert [counts.accepted for counts in found.accounting["payments"]] == positions
        for view in VIEWS:
            rows = [row for batch in found.rows(view.name) for row in batch.to_pylist()]
            expected = [states(view, log[:position]) for log, position in zip(LOGS, positions, strict=True)]
            assert rows == values(view, merge(view, expected))
        if last:
            break
    thread.join()
    assert not failures
    assert len(seen) > 3 and (2, (30, 30), (30, 30)) in seen


def test_a_snapshot_leaves_no_transaction_behind(engine: Engine, tmp_path: Path) -> None:
    install(engine, [plan()])
    found = snapshot(engine, VIEWS, tmp_path)
    with transaction(engine) as connection:
        connection.exec_driver_sql("LOCK TABLE ops.positions, ops.visible IN ACCESS EXCLUSIVE MODE NOWAIT")
        connection.exec_driver_sql("DROP VIEW serving.by_account")
    assert list(found.rows("by_account")) == []


def test_status_shows_partitions_ledger_and_workers(engine: Engine) -> None:
    (generation,) = install(engine, [plan((0, 4))])
    speed, night = PostgresSpeedStore(engine, VIEWS), PostgresNightStore(engine, VIEWS)
    before = status(engine)
    assert [(p.partition, p.cut, p.position, p.worker, p.lease_s) for p in before.partitions] == [
        (0, 0, 0, None, None),
        (1, 4, 4, None, None),
    ]
    speed.heartbeat("payments", "host-1", 60)
    assert speed.take(generation, 1, "host-1", 60) is not None
    night.choose(generation, date(2013, 1, 1), (3, 5))
    found = status(engine)
    second = found.partitions[1]
    assert (second.topic, second.generation, second.batch, second.worker, second.watermark_ms) == (
        "payments",
        1,
        0,
        "host-1",
        -1,
    )
    assert second.lease_s is not None and 50 < second.lease_s <= 60
    assert abs((datetime.now(UTC) - second.position_at).total_seconds()) < 60
    assert [(cut.number, cut.offsets, cut.status) for cut in found.ledger["payments"]] == [
        (0, (0, 4), "published"),
        (1, (3, 5), "chosen"),
    ]
    assert found.workers == {"payments": ["host-1"]}
