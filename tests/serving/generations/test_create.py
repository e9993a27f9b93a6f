"""init, init again, init while everything runs, and rebuild: the same rows, or a refusal that says what to do."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Annotated, Any

import pytest
from sqlalchemy.engine import Engine

from pipeline import Between, Count, Max, Scale, Source, Sum, View, tumbling
from pipeline.base.errors import Refused, StoreError
from pipeline.handover import Committed, Fenced, Generation
from pipeline.handover.replacement import Plan
from pipeline.log.log import Repartitioned, TopicRecreated
from serving.generations.create import install, require
from serving.generations.replace import PostgresGenerationStore
from serving.postgres.connection import transaction
from serving.stores.night import PostgresNightStore
from serving.stores.speed import PostgresSpeedStore
from tests.contract.world import (
    VIEWS,
    Payment,
    by_account,
    by_region,
    commit_of,
    connected,
    event,
    merge,
    payments,
    plan,
    served,
    staged_of,
    states,
    values,
)

D1, D2, D3 = date(2013, 1, 1), date(2013, 1, 2), date(2013, 1, 3)
LOGS = [[event(p, o, "ab"[o % 2], amount=Decimal(f"{o}.25")) for o in range(12)] for p in range(2)]
changed = View("by_account", payments, ("account",), tumbling(hours=1), {"events": Count(), "highest": Max("amount")})
CHANGED = (changed, by_region)


@pytest.fixture
def engine(postgres_url: str) -> Iterator[Engine]:
    with connected(postgres_url) as engine:
        yield engine


def everything(engine: Engine) -> list[Any]:
    """Every row of ops and every object of our schemas: its oid, file, and the transaction that wrote it."""
    with transaction(engine) as connection:
        found: list[Any] = connection.exec_driver_sql(
            """SELECT n.nspname, c.relname, c.oid, c.relfilenode, c.xmin::text
               FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
               WHERE n.nspname IN ('ops', 'batch', 'speed', 'serving') AND c.relkind IN ('r', 'v', 'i') ORDER BY 1, 2"""
        ).all()
        for schema, table, *_ in list(found):
            if schema == "ops" and not table.endswith(("pkey", "key", "generation")):
                found += connection.exec_driver_sql(
                    f'SELECT t.xmin::text, t::text FROM ops."{table}" t ORDER BY 2'
                ).all()
    return found


def test_init_makes_batch_0_and_a_row_per_partition(engine: Engine) -> None:
    (generation,) = install(engine, [plan((5, 7))])
    assert (generation.number, generation.topic_id, generation.starts) == (1, "id-1", (5, 7))
    night = PostgresNightStore(engine, VIEWS)
    (zero,) = night.ledger(generation)
    assert (zero.number, zero.date, zero.offsets, zero.status, zero.complete) == (0, None, (5, 7), "published", True)
    with transaction(engine) as connection:
        query = "SELECT partition, cut, position, cut_at IS NOT NULL, position_at IS NOT NULL FROM serving.freshness"
        rows = sorted(tuple(row) for row in connection.exec_driver_sql(query))
        assert rows == [(0, 5, 5, True, True), (1, 7, 7, True, True)]
        assert connection.exec_driver_sql("SELECT DISTINCT segment - position FROM ops.positions").scalar_one() == 0
        assert connection.exec_driver_sql("SELECT count(*), sum(accepted) FROM serving.accounting").one() == (2, 0)
        assert connection.exec_driver_sql("SELECT count(*), sum(folded) FROM serving.view_accounting").one() == (4, 0)
    assert served(engine, by_account) == []


def test_a_second_init_changes_nothing(engine: Engine) -> None:
    install(engine, [plan()])
    before = everything(engine)
    assert len(before) > 20
    install(engine, [plan((3, 3))])  # retention has moved the log's start since: the recorded one stands
    assert everything(engine) == before


def test_two_inits_at_once_make_one_generation(engine: Engine) -> None:
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(install(engine, [plan()]))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and all(generations == found[0] for generations in found)
    assert found[0][0].number == 1


def test_init_does_not_wait_for_a_worker_a_night_or_a_reader(engine: Engine) -> None:
    """Each holds its locks in the middle of its transaction; init takes none that they hold."""
    install(engine, [plan()])
    with transaction(engine) as worker, transaction(engine) as night, transaction(engine) as reader:
        worker.exec_driver_sql("UPDATE ops.positions SET position_at = now() WHERE partition = 0")
        worker.exec_driver_sql(
            "INSERT INTO ops.segments (topic, generation, partition, start, \"end\") VALUES ('x', 1, 0, 0, 1)"
        )
        worker.exec_driver_sql("DELETE FROM speed.by_account__g1")
        night.exec_driver_sql("SELECT * FROM ops.visible FOR UPDATE")
        night.exec_driver_sql("DELETE FROM batch.by_account__g1")
        reader.exec_driver_sql("SELECT * FROM serving.by_account")
        reader.exec_driver_sql("SELECT * FROM serving.freshness")
        for one in (worker, night, reader):
            one.exec_driver_sql("SET idle_in_transaction_session_timeout = 0")
        done = threading.Event()

        def again() -> None:
            install(engine, [plan()])
            done.set()

        thread = threading.Thread(target=again)
        thread.start()
        waited = not done.wait(5)
        for one in (worker, night, reader):
            one.rollback()
        thread.join()
        assert not waited


def test_init_again_and_again_while_a_worker_commits(engine: Engine) -> None:
    (generation,) = install(engine, [plan()])
    speed = PostgresSpeedStore(engine, VIEWS)
    claim = speed.take(generation, 0, "w", 60)
    assert claim is not None
    stop, rounds = threading.Event(), []

    def init() -> None:
        while not stop.is_set():
            rounds.append(install(engine, [plan()]))

    thread = threading.Thread(target=init)
    thread.start()
    for end in range(1, 13):
        outcome = speed.commit(commit_of(claim, LOGS[0], end))
        assert isinstance(outcome, Committed)
        claim = outcome.claim
    stop.set()
    thread.join()
    assert rounds and all(found == [generation] for found in rounds)
    assert served(engine, by_account) == values(by_account, states(by_account, LOGS[0]))


def test_a_changed_definition_is_refused_and_named(engine: Engine) -> None:
    install(engine, [plan()])
    before = everything(engine)
    for attempt in (lambda: install(engine, [plan(views=CHANGED)]), lambda: require(engine, payments, CHANGED)):
        with pytest.raises(Refused) as refused:
            attempt()
        text = str(refused.value)
        assert "the definitions of topic payments are not those on record (generation 1)" in text
        assert "view by_account: - aggregate total = " in text and "view by_account: + aggregate highest = " in text
        assert "by_region" not in text and "`watershed init --rebuild`" in text
    with pytest.raises(Refused, match="view by_region is gone"):
        install(engine, [plan(views=(by_account,))])
    more = replace_name(by_region, "by_place")
    with pytest.raises(Refused, match="view by_place is new"):
        require(engine, payments, (*VIEWS, more))
    assert everything(engine) == before
    assert require(engine, payments, VIEWS).number == 1


def replace_name(view: View, name: str, source: Source | None = None) -> View:
    return View(name, source or view.source, view.key, view.window, dict(view.aggregates))


def test_a_changed_source_is_named_once(engine: Engine) -> None:
    install(engine, [plan()])
    other = replace(payments, identity_horizon=timedelta(days=8))
    views = [replace_name(view, view.name, other) for view in VIEWS]
    with pytest.raises(Refused) as refused:
        require(engine, other, views)
    text = str(refused.value)
    assert text.count("the source: ") == 2 and "horizon_ms 691200000" in text and "view by_account: " not in text


def test_another_topic_under_the_same_name_is_refused(engine: Engine) -> None:
    install(engine, [plan()])
    with pytest.raises(
        TopicRecreated, match=r"payments was deleted and made anew \(id 'id-2', was 'id-1'\): .*--accept-loss"
    ):
        install(engine, [plan(topic_id="id-2")])
    with pytest.raises(
        Repartitioned, match=r"topic payments has 3 partitions, and 2 when it was set up: .*init --rebuild"
    ):
        install(engine, [plan((0, 0, 0))])
    with pytest.raises(TopicRecreated, match="was deleted and made anew"):
        PostgresGenerationStore(engine).begin(plan(topic_id="id-2", views=CHANGED))


def test_names_of_views_are_unique_across_topics(engine: Engine) -> None:
    other = replace(payments, topic="refunds")
    twin = Plan(other, "id-2", (0,), (replace_name(by_account, "by_account", other),))
    with pytest.raises(Refused, match=r"two views are named 'by_account' \(topics payments and refunds\)"):
        install(engine, [plan(), twin])
    install(engine, [plan()])
    with pytest.raises(Refused, match=r"serving\.by_account answers for topic payments"):
        install(engine, [twin])
    install(engine, [replace(twin, views=(replace_name(by_account, "refunds_by_account", other),))])
    with transaction(engine) as connection:
        query = "SELECT topic, count(*) FROM serving.freshness GROUP BY topic ORDER BY topic"
        assert [tuple(row) for row in connection.exec_driver_sql(query)] == [("payments", 2), ("refunds", 1)]


def test_without_init_one_is_told_to_run_it(engine: Engine) -> None:
    with pytest.raises(StoreError, match="run `watershed init`"):
        require(engine, payments, VIEWS)
    install(engine, [])
    with pytest.raises(Refused, match="topic payments is not set up in this database: run `watershed init`"):
        require(engine, payments, VIEWS)


def test_rebuild_folds_anew_while_the_old_generation_answers(engine: Engine) -> None:
    (old,) = install(engine, [plan()])
    speed, night = PostgresSpeedStore(engine, VIEWS), PostgresNightStore(engine, VIEWS)
    night.choose(old, D1, (4, 5))
    night.stage(old, 1, staged_of(LOGS, (4, 5), None))
    night.publish(old, 1)
    claim = speed.take(old, 0, "w", 60)
    assert claim is not None
    grant_to_analyst(engine)

    # Retention deleted the first records: the archive has them
    new = PostgresGenerationStore(engine).begin(plan((2, 2), views=CHANGED))
    assert (new.number, new.starts) == (2, (0, 0))
    assert PostgresGenerationStore(engine).begin(plan(views=CHANGED)) == new  # a rebuild that was killed goes on
    assert [(c.number, c.date, c.offsets, c.status, c.complete) for c in night.ledger(new)] == [
        (0, None, (0, 0), "published", True),
        (1, D1, (4, 5), "chosen", False),
    ]
    assert require(engine, payments, VIEWS) == old
    outcome = speed.commit(commit_of(claim, LOGS[0], 6))
    assert isinstance(outcome, Committed)
    night.choose(old, D2, (6, 5))  # goes into the new ledger when it takes over

    with pytest.raises(Refused, match="has no published batch yet"):
        PostgresGenerationStore(engine).activate(new, CHANGED)
    rebuilding = PostgresNightStore(engine, CHANGED)
    rebuilding.stage(new, 1, staged_of(LOGS, (4, 5), None, CHANGED))
    assert rebuilding.publish(new, 1) == "published"
    check(engine, VIEWS, 6, 5)
    with pytest.raises(Refused, match="begun for other definitions"):
        PostgresGenerationStore(engine).activate(new, VIEWS)
    PostgresGenerationStore(engine).activate(new, CHANGED)
    PostgresGenerationStore(engine).activate(new, CHANGED)  # nothing: it answers already
    check(engine, CHANGED, 4, 5)
    assert require(engine, payments, CHANGED) == new
    assert analyst_may_read(engine)

    assert speed.commit(commit_of(outcome.claim, LOGS[0], 8)) == Fenced()
    assert speed.reload(outcome.claim) is None
    check_retired(old, speed, night)
    with pytest.raises(Refused, match="are not those on record"):
        require(engine, payments, VIEWS)

    worker = PostgresSpeedStore(engine, CHANGED)
    mine = worker.take(new, 0, "w", 60)
    assert mine is not None and (mine.position, mine.segment) == (4, 4)
    assert worker.commit(commit_of(mine, LOGS[0], 9, CHANGED)).at == 6
    for end in (6, 9):
        landed = worker.commit(commit_of(mine, LOGS[0], end, CHANGED))
        assert isinstance(landed, Committed)
        mine = landed.claim
    check(engine, CHANGED, 9, 5)
    assert rebuilding.choose(new, D2, (9, 9)).offsets == (6, 5)


def grant_to_analyst(engine: Engine) -> None:
    with transaction(engine) as connection:
        if not connection.exec_driver_sql("SELECT 1 FROM pg_roles WHERE rolname = 'analyst'").first():
            connection.exec_driver_sql("CREATE ROLE analyst")
        connection.exec_driver_sql("GRANT SELECT ON serving.by_account TO analyst")


def analyst_may_read(engine: Engine) -> bool:
    """True when the grant is still there; it is taken away then, so that the role can go."""
    with transaction(engine) as connection:
        query = "SELECT has_table_privilege('analyst', 'serving.by_account', 'SELECT')"
        found: bool = connection.exec_driver_sql(query).scalar_one()
        connection.exec_driver_sql("DROP OWNED BY analyst")
    return found


def check_retired(old: Generation, speed: PostgresSpeedStore, night: PostgresNightStore) -> None:
    """Neither workers nor nights of the generation go on."""
    for refused in (
        lambda: speed.take(old, 0, "w", 60),
        lambda: speed.leases(old),
        lambda: night.choose(old, D3, (9, 9)),
        lambda: night.stage(old, 2, staged_of(LOGS, (6, 5), None)),
        lambda: night.publish(old, 2),
    ):
        with pytest.raises(Refused, match=r"generation 1 of topic payments is retired: .*`watershed init --rebuild`"):
            refused()


def check(engine: Engine, views: tuple[View, ...], *positions: int) -> None:
    for view in views:
        expected = [states(view, log[:position]) for log, position in zip(LOGS, positions, strict=True)]
        assert served(engine, view) == values(view, merge(view, expected))


def test_a_rebuild_for_yet_other_definitions_replaces_the_one_begun(engine: Engine) -> None:
    install(engine, [plan()])
    first = PostgresGenerationStore(engine).begin(plan(views=CHANGED))
    second = PostgresGenerationStore(engine).begin(plan(views=(changed,)))
    assert (first.number, second.number) == (2, 3)
    with pytest.raises(Refused, match="is not being built"):
        PostgresGenerationStore(engine).activate(first, CHANGED)
    PostgresGenerationStore(engine).activate(second, (changed,))
    with pytest.raises(StoreError, match="by_region"):
        served(engine, by_region)
    check(engine, (changed,), 0, 0)


def test_a_view_that_somebody_built_upon_is_not_dropped(engine: Engine) -> None:
    install(engine, [plan()])
    with transaction(engine) as connection:
        connection.exec_driver_sql("CREATE VIEW public.mine AS SELECT total FROM serving.by_account")
    new = PostgresGenerationStore(engine).begin(plan(views=CHANGED))
    with pytest.raises(
        Refused, match=r"view public\.mine depends on view serving\.by_account: drop what depends on it"
    ):
        PostgresGenerationStore(engine).activate(new, CHANGED)
    assert require(engine, payments, VIEWS).number == 1
    with transaction(engine) as connection:
        connection.exec_driver_sql("DROP VIEW public.mine")
    PostgresGenerationStore(engine).activate(new, CHANGED)


def test_a_changed_constraint_is_a_changed_definition(engine: Engine) -> None:
    @dataclass(frozen=True)
    class Narrow(Payment):
        amount: Annotated[Decimal | None, Scale(2), Between(0, 5)]

    install(engine, [plan()])
    narrow = replace(payments, record=Narrow)
    with pytest.raises(Refused, match=r"the source: \+ amount: decimal.*Between"):
        require(engine, narrow, [View("by_account", narrow, ("account",), tumbling(hours=1), {"total": Sum("amount")})])
