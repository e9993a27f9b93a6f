"""A Postgres that restarts in the middle of a transaction of a night is waited for, and the transaction made again.

Never one that may have landed and is not harmless twice.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from sandbox.postgres import SystemPostgres
from serving.postgres.connection import NothingChanged, OutcomeUnknown, transaction
from serving.stores.night import PostgresNightStore
from serving.stores.operator import PostgresOperatorStore
from tests.contract.store_world import D1, LOGS
from tests.contract.world import VIEWS, connected, staged_of
from tests.serving.test_operator_store import Operated

AWAY_S = 2.0


class Outage:
    """Crash points: at one of them, once, Postgres dies, and is there again after AWAY_S."""

    def __init__(self, postgres: SystemPostgres, point: str) -> None:
        self.postgres, self.point = postgres, point
        self.thread: threading.Thread | None = None

    def reach(self, name: str) -> None:
        if name == self.point and self.thread is None:
            self.postgres.kill()
            self.thread = threading.Thread(target=self._come_back)
            self.thread.start()

    def _come_back(self) -> None:
        threading.Event().wait(AWAY_S)
        self.postgres.start()


@contextmanager
def outage(postgres: SystemPostgres, point: str) -> Iterator[Outage]:
    made = Outage(postgres, point)
    try:
        yield made
        assert made.thread is not None, f"{point} was not reached"
    finally:
        if made.thread is not None:
            made.thread.join()


@pytest.fixture(scope="module")
def server(server_folder: Path) -> Iterator[SystemPostgres]:
    folder = server_folder / "outages"
    folder.mkdir()
    with SystemPostgres(folder) as postgres:
        yield postgres


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def patient(server: SystemPostgres, said: list[str]) -> Iterator[Engine]:
    with server.database("outages") as url, connected(url, outage_patience_s=60, say=said.append) as engine:
        yield engine


STEPS: dict[str, Callable[[Operated], Any]] = {
    "choose.written": lambda world: world.night.choose(world.generation, D1, (3, 3)).number,
    "stage.copied": lambda world: world.night.stage(world.generation, 1, staged_of(LOGS, (3, 3), None)),
    "stage.written": lambda world: world.night.stage(world.generation, 1, staged_of(LOGS, (3, 3), None)),
    "publish.locked": lambda world: world.night.publish(world.generation, 1),
    "publish.written": lambda world: world.night.publish(world.generation, 1),
    "rollback.written": lambda world: world.operator.rollback(world.generation).number,
}
ANSWERS = [1, None, None, "published", "published"]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("point", list(STEPS)[:-1])
def test_a_restart_of_two_seconds_in_the_middle_of_a_step_is_waited_out(
    server: SystemPostgres, patient: Engine, said: list[str], point: str
) -> None:
    world = Operated(patient)
    order = ["choose.written", "stage.written", "publish.written"]
    name = {"stage.copied": "stage.written", "publish.locked": "publish.written"}.get(point, point)
    for before in order[: order.index(name)]:
        STEPS[before](world)
    with outage(server, point) as crash:
        world.night = PostgresNightStore(patient, VIEWS, crash=crash)
        assert STEPS[point](world) == dict(zip(STEPS, ANSWERS, strict=False))[point]
    assert said and "trying again for" in said[0] and "Postgres at" in said[0]
    for after in order[order.index(name) + 1 :]:
        STEPS[after](world)
    world.check(3, 3)


@pytest.mark.timeout(180)
def test_a_write_that_may_have_landed_is_made_again_only_where_that_is_harmless(
    server: SystemPostgres, patient: Engine
) -> None:
    world = Operated(patient)
    for step in ("choose.written", "stage.written"):
        STEPS[step](world)
    for step, harmless in (("publish.written", True), ("rollback.written", False)):
        with outage(server, "commit") as crash:
            armed = threading.Event()
            store_crash = Arm(armed, step)
            world.night = PostgresNightStore(patient, VIEWS, crash=store_crash)
            world.operator = PostgresOperatorStore(patient, VIEWS, crash=store_crash)

            def at_commit(connection: Any, armed: threading.Event = armed, crash: Outage = crash) -> None:
                if armed.is_set():
                    crash.reach("commit")

            sa.event.listen(patient, "commit", at_commit)
            try:
                if harmless:
                    assert STEPS[step](world) == "published"
                else:
                    with pytest.raises(OutcomeUnknown):
                        STEPS[step](world)
            finally:
                sa.event.remove(patient, "commit", at_commit)
    world.check(3, 3)


class Arm:
    """Crash points that say when one was reached."""

    def __init__(self, armed: threading.Event, point: str) -> None:
        self.armed, self.point = armed, point

    def reach(self, name: str) -> None:
        if name == self.point:
            self.armed.set()


@pytest.mark.timeout(60)
def test_without_patience_an_outage_is_an_error_at_once(server: SystemPostgres) -> None:
    with server.database("impatient") as url, connected(url) as engine:
        world = Operated(engine)
        server.kill()
        try:
            with pytest.raises(NothingChanged, match="cannot be reached"):
                world.night.choose(world.generation, D1, (3, 3))
        finally:
            server.start()
        with transaction(engine) as connection:
            assert connection.exec_driver_sql("SELECT 1").scalar_one() == 1
