"""`watershed demo`: real weather through both layers, on real servers, and held against a recompute of the log at the end.

    exit code 0  =>  the audits found 0 differences, at rest and while events arrived, and what was sent is what was counted

Everything that runs is what a user would run: `watershed init`, `watershed speed`, `luigi --module tasks Nightly`, each a child process
with a log. What is started here is stopped here, by process id; what the settings name is only used.
"""

import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, datetime
from enum import IntEnum
from pathlib import Path
from typing import Any

from rich.console import Console

from pipeline.base.errors import DefinitionError, SettingsError
from pipeline.definition.view import View
from pipeline.definition.views_module import load_views
from pipeline.handover import Counts
from pipeline.lake.lake import Lake
from pipeline.log.kafka.connection import KafkaConnection
from pipeline.log.kafka.log import KafkaLog
from sandbox.display import Display, Frame, Scene, Step
from sandbox.embedded_broker import EmbeddedBroker
from sandbox.postgres import EmbeddedPostgres
from sandbox.processes import Child, ServerError, quote_log, wait_until
from sandbox.services import (
    Given,
    Place,
    Sender,
    finished,
    free_night,
    ignore_interrupts,
    interruptible,
    lake_of_its_own,
    logged,
    night_progress,
    night_tasks,
    rejected_files,
    run,
    whole,
)
from sandbox.summary import AuditFound, Findings, summary
from sandbox.watcher import Watcher
from sandbox.weather import readings, spread
from serving.answers import by_layer, snapshot
from serving.audit.audit import Audit
from serving.postgres.connection import engine
from serving.status import status

VIEWS_MODULE, SHOWN_VIEW = "views", "daily_weather"
LIMIT_S = 180.0  # of any wait: far beyond what a slow machine needs
# Shares of the live events: the night begins; slow down while what runs meanwhile is not over.
NIGHT_AT, SLOWER_AT = 0.25, 0.6
# Slowed down, the rest is always spread over so many seconds: it lasts as long as it must.
STRETCH_S, SLOWEST_PER_S = 12.0, 5.0
OVER = object()


class At(IntEnum):
    """The steps, in order."""

    SERVERS, INIT, HISTORY, NIGHT_1, LIVE, NIGHT_2, AUDIT_LIVE, CAUGHT_UP, AUDIT, REFERENCE, CHART = range(11)


TITLES = (
    "Start the servers",
    "Set up",
    "History",
    "First night",
    "Live events",
    "Second night meanwhile",
    "Audit meanwhile",
    "Catch up",
    "Audit",
    "Audit by a second f",
    "Draw the chart",
)


@dataclass(frozen=True)
class Size:
    """Amount of weather: readings before `live_from` are the history; `events_per_s` is the pace of the live ones."""

    live_from: str
    until: str
    events_per_s: float


FULL = Size("2013-10-01", "2014-01-01", 330.0)
QUICK = Size("2013-02-01", "2013-02-15", 120.0)


def demo(out: Path | None = None, seed: int = 2013, quick: bool = False) -> int:
    """Play it, with its output in `out` (a new or empty folder); the exit code. Raises WatershedError when a part fails."""
    folder = _fresh_folder(out)
    size = QUICK if quick else FULL
    console = Console()
    rows = [r for r in readings() if r["observed_at"] < size.until]
    display = Display(Scene(TITLES, _day(rows[0]), _day(rows[-1])), console)
    try:
        with interruptible(), logged(folder / "logs" / "demo.log"), ExitStack() as stack:
            story = Story(folder, size, seed, rows, display, stack)
            try:
                with display:
                    findings = story.play()
            except BaseException:
                display.fail()
                raise
            finally:
                if display.live:
                    console.print(Frame(display.scene))
                stack.callback(ignore_interrupts)  # first of all: a second Ctrl-C would leave processes behind
    except KeyboardInterrupt:
        console.print(
            f"Stopped: everything that was started has ended. The output so far is in {folder}", soft_wrap=True
        )
        return 130
    return summary(console, findings)


class Story:
    """The steps of the demo; `stack` ends what they start."""

    def __init__(
        self, folder: Path, size: Size, seed: int, rows: list[dict[str, Any]], display: Display, stack: ExitStack
    ) -> None:
        self.folder, self.size, self.seed, self.rows = folder, size, seed, rows
        self.display, self.stack = display, stack
        self.logs = folder / "logs"
        self.audits: list[AuditFound] = []

    def play(self) -> Findings:
        """From the servers to the chart."""
        self._servers()
        self._init()
        self.worker = self.place.worker(self.logs / "speed.log")
        self.stack.callback(self.worker.stop)
        self.watcher = self.stack.enter_context(Watcher(self.place, self.view, self.display))
        self.sender = Sender(self.place.kafka, self.topic)
        self.stack.callback(self.sender.close)
        self.display.scene.sent = self.sender.sent
        self._history()
        self._first_night()
        self._live()
        self._catch_up()
        self._audit(At.AUDIT, reference=False)
        self._audit(At.REFERENCE, reference=True)
        self._chart()
        return self._stop_and_tell()

    # ---- setting up
    def _servers(self) -> None:
        self.display.begin(At.SERVERS)
        given = Given()
        given.refuse_security_for_nobody()
        own = {"Postgres": given.postgres is not None, "Kafka": given.kafka is not None}
        # Services that live on know cuts whose files lie in the lake of the settings; fresh ones get a fresh lake.
        lake = whole(given.lake) if all(own.values()) else lake_of_its_own(given, self.folder)
        postgres = given.postgres_url() if own["Postgres"] else self._embedded_postgres()
        broker = None if own["Kafka"] else self.stack.enter_context(EmbeddedBroker(self.logs))
        kafka = given.kafka_connection() if broker is None else KafkaConnection(broker.bootstrap)
        self.place = Place(kafka, postgres, lake, VIEWS_MODULE)
        self.display.finish(
            At.SERVERS, ", ".join(f"{'your' if mine else 'embedded'} {name}" for name, mine in own.items())
        )

    def _embedded_postgres(self) -> str:
        """In a temporary folder: a user's path may hold spaces, and as root the rights of the folders above it would change."""
        data = Path(tempfile.mkdtemp(prefix="watershed-demo-"))
        self.stack.callback(shutil.rmtree, data, ignore_errors=True)
        server = EmbeddedPostgres(data / "postgres")
        self.stack.callback(lambda: server.log.exists() and shutil.copyfile(server.log, self.logs / "postgres.log"))
        return self.stack.enter_context(server).url

    def _init(self) -> None:
        self.display.begin(At.INIT).show("watershed init makes the topic, the tables and the SQL views")
        run(self.place.watershed("init", log=self.logs / "init.log"), LIMIT_S)
        self.views = load_views(VIEWS_MODULE)
        self.view = _shown_view(self.views)
        self.topic = self.view.source.topic
        self.engine = engine(self.place.postgres, application_name="watershed demo")
        self.stack.callback(self.engine.dispose)
        self.log = KafkaLog(self.place.kafka)
        self.stack.callback(self.log.close)
        self.before = self._counted()
        self.partitions = len(self.log.end_offsets(self.topic))
        self.display.finish(At.INIT, f"{self.topic}, {self.partitions} partitions, {len(self.views)} views")

    # ---- events
    def _history(self) -> None:
        rows = [r for r in self.rows if r["observed_at"] < self.size.live_from]
        events = list(spread(rows, self.seed, late=0.01, broken=0.003))
        step = self.display.begin(At.HISTORY)
        for n, event in enumerate(events):
            self.sender.send(event)
            step.show("sent to Kafka, as fast as it goes", n, len(events))
        self._await_all(step, "folded by the speed layer")
        self.display.finish(At.HISTORY, f"{len(events):,} events, {_day(rows[0]):%b %d} to {_day(rows[-1]):%b %d}")

    def _first_night(self) -> None:
        for _ in self._night(At.NIGHT_1, self.size.live_from, "night-1.log"):
            self.watcher.pause(self._healthy)

    def _live(self) -> None:
        """Send at the set pace; meanwhile a night runs, and after it an audit."""
        rows = [r for r in self.rows if r["observed_at"] >= self.size.live_from]
        events = list(spread(rows, self.seed + 1))
        step = self.display.begin(At.LIVE)
        middle, over = self._middle(events[round(NIGHT_AT * len(events))].observed_at), False
        due_s = time.monotonic()
        for n, event in enumerate(events):
            self.sender.send(event)
            slowed = not over and n >= SLOWER_AT * len(events)
            due_s += 1 / (max(SLOWEST_PER_S, (len(events) - n) / STRETCH_S) if slowed else self.size.events_per_s)
            if n % 10 == 0:
                self._healthy()
                step.show(f"now {event.observed_at[:10]}", n, len(events))
                if n >= NIGHT_AT * len(events):
                    over = over or next(middle, OVER) is OVER
                time.sleep(max(0.0, due_s - time.monotonic()))  # the pace, not a wait for something
        self.display.finish(At.LIVE, f"{len(events):,} events, {_day(rows[0]):%b %d} to {_day(rows[-1]):%b %d}")
        for _ in middle:  # on a very slow machine
            self.watcher.pause(self._healthy)

    def _middle(self, observed_at: str) -> Iterator[None]:
        """The second night, then an audit of whatever instant it hits; yields while they run."""
        yield from self._night(At.NIGHT_2, observed_at, "night-2.log")
        self.display.begin(At.AUDIT_LIVE).show("a recompute of the log, while events arrive and are folded")
        audit = self.place.watershed("audit", log=self.logs / "audit-meanwhile.log")
        for _ in self._running(audit):
            yield
        self.audits.append(AuditFound("while events arrived", 0, None))
        self.display.finish(At.AUDIT_LIVE, "0 differences")

    def _night(self, at: At, observed_at: str, log: str) -> Iterator[None]:
        """A night as a child process, named by the date of the events; yields while it runs."""
        step = self.display.begin(at)
        ledger = status(self.engine).ledger[self.topic]
        day = free_night(date.fromisoformat(observed_at[:10]), ledger)
        night = self.place.night(day, self.logs / log)
        tasks = night_tasks(self.partitions, len(self.views))
        for _ in self._running(night):
            done, doing = night_progress(night)
            step.show(doing, min(done, tasks), tasks)
            yield
        cut = status(self.engine).ledger[self.topic][-1]
        self.display.finish(
            at, f"{day}: cut {cut.number} published, {sum(cut.offsets):,} records are the batch layer's now"
        )

    def _running(self, child: Child) -> Iterator[None]:
        """Yield until it has ended well; raise when it has failed, or takes too long."""
        self.stack.callback(child.stop)
        until_s = time.monotonic() + LIMIT_S
        while not finished(child):
            if time.monotonic() > until_s:
                raise ServerError(
                    f"{child.name} did not end within {LIMIT_S:g} s. {quote_log(child.log, child.from_byte)}"
                )
            yield

    def _await_all(self, step: Step, what: str) -> None:
        """Wait until the answer holds all that was sent."""
        self.sender.flush()
        ends = self.log.end_offsets(self.topic)

        def reached() -> bool:
            self._healthy()
            seen = self.display.scene.seen
            if seen is None:
                return False
            step.show(what, sum(ends) - seen.lag, sum(ends))
            return all(f.position >= end for f, end in zip(seen.by_layer.freshness, ends, strict=True))

        if not wait_until(reached, LIMIT_S):
            raise ServerError(
                f"the speed layer did not reach the log's end ({ends}) within {LIMIT_S:g} s; see {self.worker.log}"
            )

    def _catch_up(self) -> None:
        step = self.display.begin(At.CAUGHT_UP)
        self._await_all(step, "folded by the speed layer")
        assert self.display.scene.seen is not None
        self.display.finish(
            At.CAUGHT_UP, f"the answer holds all {self.display.scene.seen.position:,} records of the log"
        )

    def _healthy(self) -> None:
        """Raise when the worker has ended, or the display cannot read."""
        self.watcher.check()
        if not self.worker.runs:
            finished(self.worker)
            raise ServerError(f"the worker of the speed layer ended by itself; see {self.worker.log}")

    # ---- holding it to its promise
    def _audit(self, at: At, reference: bool) -> None:
        step = self.display.begin(at)
        how = "by an independent plain-Python f" if reference else "by the layers' kernels, at other block boundaries"
        reached: dict[str, int] = {}

        def progress(what: str, done: int, of: int) -> None:
            reached[what] = done
            step.show(f"the whole log again, {how}", sum(reached.values()), total)

        assert self.display.scene.seen is not None
        total = self.display.scene.seen.position
        audit = Audit(
            self.engine, self.log, Lake(self.place.lake), random.SystemRandom().randrange(2**32), reference, progress
        )
        reports = audit.run(self.views)
        differences = sum(r.differences + len(r.counts) for r in reports)
        self.audits.append(AuditFound(how, differences, reports))
        self.display.finish(at, f"{differences:,} differences in {sum(r.rows for r in reports):,} rows, {how}")

    def _chart(self) -> None:
        self.display.begin(At.CHART)
        from sandbox.chart import draw

        draw(by_layer(self.engine, self.view, limit=100_000), self.folder / "weather.png")
        self.display.finish(At.CHART, "weather.png")

    def _stop_and_tell(self) -> Findings:
        self._healthy()
        self.worker.stop(limit_s=30.0)
        finished(self.worker)
        counted = self._counted()
        generations = {g.topic: g for g in self._snapshot().generations.values()}
        rejected = rejected_files(
            self.place.lake, self.view.source, generations[self.topic], status(self.engine).ledger[self.topic]
        )
        fresh = self.before.records == 0
        return Findings(
            self.folder, self.place.lake, self.audits, dict(self.sender.sent) if fresh else None, counted, rejected
        )

    def _snapshot(self) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            return snapshot(self.engine, [], Path(folder))

    def _counted(self) -> Counts:
        """Counts in serving.accounting of the topic, all partitions together."""
        return sum(self._snapshot().accounting[self.topic], Counts())


def _fresh_folder(out: Path | None) -> Path:
    folder = (out or Path("out") / f"demo-{datetime.now().astimezone():%Y%m%d-%H%M%S}").expanduser().absolute()
    try:
        if folder.exists() and any(folder.iterdir()):
            raise SettingsError(f"the output folder {folder} is not empty: name a new one with --out")
        (folder / "logs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"the output folder {folder} cannot be made ({error.strerror}): name another one with --out"
        ) from None
    return folder


def _shown_view(views: tuple[View, ...]) -> View:
    for view in views:
        if view.name == SHOWN_VIEW:
            return view
    names = ", ".join(v.name for v in views)
    raise DefinitionError(
        f"the demo shows the view {SHOWN_VIEW!r} of the module {VIEWS_MODULE!r}, which has {names}: put it back"
    )


def _day(row: dict[str, Any]) -> date:
    return date.fromisoformat(row["observed_at"][:10])
