"""`watershed speed`, and `python -m speed_layer`: a worker on the real parts, with signals and a display.

When `stop` is set the worker drains, commits, lets go of its leases and returns; exit code 0.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import structlog

from pipeline.base.crash import crash_points
from pipeline.base.errors import LakeError
from pipeline.base.memory import reuse_memory
from pipeline.decode.registry import RegistryAway
from pipeline.definition.view import View
from pipeline.handover import Generation
from pipeline.handover.generation import refuse_other_log
from pipeline.handover.patience import wait_out
from pipeline.lake.lake import Lake
from pipeline.log.kafka.log import KafkaLog
from pipeline.log.log import Unreachable
from pipeline.settings import Settings, by_source
from serving.generations.create import require
from serving.postgres.connection import Engine, StoreUnavailable, engine
from serving.stores.schemas import SchemaLedger
from serving.stores.speed import PostgresSpeedStore
from speed_layer.collaborators import ActiveSource, Collaborators
from speed_layer.consumer import LiveConsumer
from speed_layer.display import Display
from speed_layer.executors import Executor, InCaller, InThreads
from speed_layer.metrics import serve
from speed_layer.warm_up import warm_up
from speed_layer.worker import Worker

GROUP = "watershed"
SWITCH_S = 0.0005  # Python's own 5 ms is what a commit would wait for each thread that computes
THREADS = min(4, os.cpu_count() or 1)
COMMITTERS = 4
PASSING = (StoreUnavailable, Unreachable, LakeError, RegistryAway)


def main(until_caught_up: bool, stop: threading.Event) -> None:
    """Run one worker until `stop` is set; with `until_caught_up`, until what is in the log now is committed.

    At the start, a Postgres or Kafka that does not answer is waited for, for `start_patience_s` at most; a worker at work waits for ever.
    """
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(file=sys.stderr))
    settings = Settings.load()
    views = settings.load_views()
    database = engine(settings.postgres_url(), application_name="watershed speed")
    kafka = settings.kafka_connection()
    log, crash, registry = KafkaLog(kafka), crash_points(), settings.registry()
    store = PostgresSpeedStore(database, views, crash)

    def begin() -> tuple[list[ActiveSource], Callable[[], bool] | None]:
        sources = _active(database, views)
        for one in sources:  # no lease is taken by a worker that could not read
            refuse_other_log(one.generation, log.describe(one.source.topic))
        return sources, _caught_up(log, store, [one.generation for one in sources]) if until_caught_up else None

    try:
        sources, until = wait_out(begin, PASSING, patience_s=settings.start_patience_s, say=_say_waiting, stop=stop)
    except PASSING:
        if stop.is_set():  # told to end while it waited: nothing is in hand
            return
        raise
    with _threads() as (folding, committing):
        collaborators = Collaborators(
            store=store,
            log=log,
            reader=LiveConsumer(kafka, group_id=GROUP),
            lake=Lake(settings.lake, crash),
            snapshot_store=store,
            transient=PASSING,
            schemas=SchemaLedger(database, registry),
            asking=InThreads("schemas"),
            crash=crash,
            folding=folding,
            committing=committing,
            snapshot_every_s=settings.snapshot_every_s,
        )
        worker = Worker(sources, collaborators, stop)
        for one in sources:
            warm_up(one.source, one.views)
        reuse_memory()
        sys.setswitchinterval(SWITCH_S)
        metrics = serve(worker.stats, settings.metrics_host, settings.metrics_port) if settings.metrics_port else None
        with Display(worker.name, worker.stats):
            worker.run(until)
        if metrics is not None:
            metrics.shutdown()
    log.close()


def _say_waiting(why: str) -> None:
    structlog.get_logger("speed").warning("waiting", why=why)


def _active(database: Engine, views: tuple[View, ...]) -> list[ActiveSource]:
    """The sources with the generations in force; Refused where the definitions are not those on record."""
    return [ActiveSource(of[0].source, of, require(database, of[0].source, of)) for of in by_source(views).values()]


def _caught_up(log: KafkaLog, store: PostgresSpeedStore, generations: list[Generation]) -> Callable[[], bool]:
    """A question: has every partition's position, whoever moves it, reached the log's end as of now?"""
    ends = {g.topic: log.end_offsets(g.topic) for g in generations}
    return lambda: all(row.position >= ends[g.topic][row.partition] for g in generations for row in store.leases(g))


@contextmanager
def _threads() -> Iterator[tuple[Executor | None, Executor]]:
    """Pools that fold and commit; on one processor the worker's own thread does both."""
    if THREADS == 1:
        yield None, InCaller()
        return
    with ExitStack() as stack:
        pools = [ThreadPoolExecutor(count, name) for name, count in (("fold", THREADS), ("commit", COMMITTERS))]
        for pool in pools:
            stack.callback(pool.shutdown, cancel_futures=True)
        yield pools[0], pools[1]
