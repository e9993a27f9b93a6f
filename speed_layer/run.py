"""`watershed speed`, and `python -m speed_layer`: a worker on the real parts, with signals and a display.

When `stop` is set the worker drains, commits, lets go of its leases and returns; exit code 0.
"""

import os
import sys
import threading
from collections.abc import Callable

import structlog
from rich.console import Console
from rich.live import Live
from rich.table import Table

from pipeline.base.crash import crash_points
from pipeline.base.errors import LakeError
from pipeline.base.memory import reuse_memory
from pipeline.base.stages import totals
from pipeline.handover import Generation
from pipeline.handover.generation import refuse_other_log
from pipeline.lake.lake import Lake
from pipeline.log.kafka.log import KafkaLog
from pipeline.log.log import Unreachable
from pipeline.settings import Settings, by_source
from serving.generations.create import require
from serving.postgres.connection import StoreUnavailable, engine
from serving.stores.speed import PostgresSpeedStore
from speed_layer.consumer import LiveConsumer
from speed_layer.metrics import serve
from speed_layer.warm_up import warm_up
from speed_layer.worker import Worker

GROUP = "watershed"
SHOW_EVERY_S = 1.0
LOG_EVERY_S = 10.0
SWITCH_S = 0.0005  # Python's own 5 ms is what a commit would wait for each thread that computes
THREADS = min(4, os.cpu_count() or 1)


def main(until_caught_up: bool, stop: threading.Event) -> None:
    """Run one worker until `stop` is set; with `until_caught_up`, until what is in the log now is committed."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(file=sys.stderr))
    settings = Settings.load()
    views = settings.load_views()
    database = engine(settings.postgres_url(), application_name="watershed speed")
    sources = [(of[0].source, of, require(database, of[0].source, of)) for of in by_source(views).values()]
    kafka = settings.kafka_connection()
    log = KafkaLog(kafka)
    crash = crash_points()
    store = PostgresSpeedStore(database, views, crash)
    reader = LiveConsumer(kafka, group_id=GROUP)
    lake, transient = Lake(settings.lake, crash), (StoreUnavailable, Unreachable, LakeError)
    worker = Worker(sources, store, log, reader, lake, transient, stop, crash, store, settings.snapshot_every_s, THREADS)
    for source, of, _ in sources:
        warm_up(source, of)
    reuse_memory()
    sys.setswitchinterval(SWITCH_S)
    metrics = serve(worker.stats, settings.metrics_host, settings.metrics_port) if settings.metrics_port else None
    until = _caught_up(log, store, [g for _, _, g in sources]) if until_caught_up else None
    with _Shown(worker):
        worker.run(until)
    if metrics is not None:
        metrics.shutdown()
    log.close()


def _caught_up(log: KafkaLog, store: PostgresSpeedStore, generations: list[Generation]) -> Callable[[], bool]:
    """Whether every partition's position, whoever moves it, has reached the log's end as of now.

    Refused for a topic that is another one: its positions may well be beyond the end, with nothing left to take over.
    """
    for g in generations:
        refuse_other_log(g, log.describe(g.topic))
    ends = {g.topic: log.end_offsets(g.topic) for g in generations}
    return lambda: all(row.position >= ends[g.topic][row.partition] for g in generations for row in store.leases(g))


class _Shown:
    """The worker's figures: a live table on a terminal, a line every ten seconds elsewhere."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.done = threading.Event()
        self.console = Console(stderr=True)
        self.thread = threading.Thread(target=self._show, name="display", daemon=True)

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join(timeout=5)

    def _show(self) -> None:
        if self.console.is_terminal:
            with Live(self._table(), console=self.console, refresh_per_second=4) as live:
                while not self.done.wait(SHOW_EVERY_S / 2):
                    live.update(self._table())
                live.update(self._table())
        else:
            while not self.done.wait(LOG_EVERY_S):
                self._line()
            self._line()
            structlog.get_logger("speed").info("seconds spent", **{name: round(spent_s, 2) for name, (spent_s, _) in totals().items()})

    def _line(self) -> None:
        stats = self.worker.stats
        structlog.get_logger("speed").info(
            "speed",
            partitions=len(stats.positions),
            lag=stats.lag,
            rate_per_s=round(stats.rate_per_s),
            commit_ms=round(stats.commit_ms, 1),
            latency_ms=round(stats.latency_ms),
            accepted=stats.totals.accepted,
            duplicates=stats.totals.duplicates,
            rejected=stats.totals.rejected,
            tombstones=stats.totals.tombstones,
        )

    def _table(self) -> Table:
        stats, worker = self.worker.stats, self.worker
        table = Table(title=f"speed layer, worker {worker.name}", caption=worker.trouble or None)
        for name in ("partition", "position", "log end", "lag"):
            table.add_column(name, justify="left" if name == "partition" else "right")
        for (topic, partition), position in sorted(stats.positions.items()):
            end = stats.log_ends.get((topic, partition), position)
            table.add_row(f"{topic}/{partition}", f"{position:,}", f"{end:,}", f"{max(0, end - position):,}")
        totals = stats.totals
        table.add_section()
        table.add_row("rate", f"{stats.rate_per_s:,.0f} records/s", "commit", f"{stats.commit_ms:.1f} ms")
        table.add_row("latency", f"{stats.latency_ms:,.0f} ms", "commits", f"{stats.commits:,}")
        table.add_row("accepted", f"{totals.accepted:,}", "duplicates", f"{totals.duplicates:,}")
        table.add_row("rejected", f"{totals.rejected:,}", "tombstones", f"{totals.tombstones:,}")
        return table


