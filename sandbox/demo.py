"""`watershed demo`: real weather through both layers, on real servers, and held against a recompute of the log at the end.

    exit code 0  =>  the audits found 0 differences, at rest and while events arrived, and what was sent is what was counted

Everything that runs is what a user would run: `watershed init`, `watershed speed`, `luigi --module tasks Nightly`, each a child process
with a log. What is started here is stopped here, by process id; what the settings name is only used.
"""

import json
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from pipeline.base.errors import DefinitionError
from pipeline.definition.view import View
from pipeline.definition.views_module import load_tables, load_views
from pipeline.handover import Counts, Cut
from pipeline.lake.lake import Lake
from pipeline.log.kafka.log import KafkaLog
from pipeline.settings import by_source
from sandbox.demo_plan import (
    CHANGE_AT,
    FULL,
    QUICK,
    RENAMED,
    SLOWER_AT,
    SLOWEST_PER_S,
    STRETCH_S,
    TITLES,
    At,
    Size,
)
from sandbox.demo_servers import fresh_folder, servers
from sandbox.display import Display, Frame
from sandbox.events import Kind, Row, as_they_arrive, spread
from sandbox.flights import FLIGHTS, flights, lay_out, rename, write_lines
from sandbox.processes import Child, ServerError, quote_log, wait_until
from sandbox.scene import Scene, Seen, Step
from sandbox.services import (
    Sender,
    finished,
    free_night,
    ignore_interrupts,
    interruptible,
    logged,
    night_progress,
    night_tasks,
    rejected_files,
    run,
)
from sandbox.summary import PICTURE, AuditFound, Changed, Findings, OfTopic, summary
from sandbox.watcher import Watcher
from sandbox.weather import WEATHER, readings
from serving.answers import by_layer, snapshot
from serving.audit.audit import Audit
from serving.postgres.connection import engine
from serving.status import status
from serving.stores.tables import PostgresTableStore

VIEWS_MODULE = "views.demo"
SHOWN_VIEWS = (WEATHER_VIEW, FLIGHTS_VIEW, _) = ("daily_weather", "delays", "delays_by_weather")
DATA = "FLIGHTS_DATA"  # where views.flights looks for its files
LIMIT_S = 180.0  # of any wait: far beyond what a slow machine needs
OVER = object()


def demo(out: Path | None = None, seed: int = 2013, quick: bool = False) -> int:
    """Play it, with its output in `out` (a new or empty folder); the exit code. Raises WatershedError when a part fails."""
    folder = fresh_folder(out)
    size = QUICK if quick else FULL
    console = Console()
    weather = [r for r in readings() if size.weather_from <= r["observed_at"] < size.until]
    departures = flights(size.flights_from, size.until)
    display = Display(Scene(TITLES, _day(weather[0]), _day(weather[-1]), RENAMED), console)
    try:
        with interruptible(), logged(folder / "logs" / "demo.log"), ExitStack() as stack:
            story = Story(folder, size, seed, weather, departures, display, stack)
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
        self,
        folder: Path,
        size: Size,
        seed: int,
        weather: list[Row],
        departures: list[Row],
        display: Display,
        stack: ExitStack,
    ) -> None:
        self.folder, self.size, self.seed, self.weather, self.departures = folder, size, seed, weather, departures
        self.display, self.stack = display, stack
        self.logs, self.data = folder / "logs", folder / "data"
        self.audits: list[AuditFound] = []

    def play(self) -> Findings:
        """From the servers to the chart."""
        self.display.begin(At.SERVERS)
        self.place, words = servers(self.folder, VIEWS_MODULE, {DATA: str(self.data)}, self.stack)
        self.display.finish(At.SERVERS, words)
        self._tables()
        self._init()
        self.worker = self.place.worker(self.logs / "speed.log")
        self.stack.callback(self.worker.stop)
        watcher = Watcher(self.place, self.views[WEATHER_VIEW], self.views[FLIGHTS_VIEW], self.display)
        self.watcher = self.stack.enter_context(watcher)
        self.sender = Sender(self.place.kafka)
        self.stack.callback(self.sender.close)
        self.display.scene.sent = self.sender.kinds
        self._history()
        self._first_night()
        self._live()
        self._catch_up()
        self._audit(At.AUDIT, reference=False)
        self._audit(At.REFERENCE, reference=True)
        self._chart()
        return self._stop_and_tell()

    # ---- setting up
    def _tables(self) -> None:
        """The files of the tables, and their first versions: what views look up is loaded before `init`."""
        self.display.begin(At.TABLES).show("watershed load makes a version of each table, from files of CSV")
        lay_out(self.data)
        run(self.place.watershed("load", log=self.logs / "load.log"), LIMIT_S)
        self.engine = engine(self.place.postgres, application_name="watershed demo")
        self.stack.callback(self.engine.dispose)
        counts = (f"{self._loaded(table.name)['rows']:,} {table.name}" for table in load_tables(VIEWS_MODULE))
        self.display.finish(At.TABLES, ", ".join(counts).replace("_", " "))

    def _loaded(self, table: str) -> dict[str, int]:
        """Counts of the table's newest version."""
        newest = PostgresTableStore(self.engine).versions(table)[-1]
        counts: dict[str, int] = json.loads(newest.manifest or "{}")["facts"]["counts"]
        return counts

    def _init(self) -> None:
        self.display.begin(At.INIT).show("watershed init makes the topics, the tables and the SQL views")
        run(self.place.watershed("init", log=self.logs / "init.log"), LIMIT_S)
        self.views = _shown_views(load_views(VIEWS_MODULE))
        self.sources = by_source(tuple(self.views.values()))
        self.weather_topic, self.flights_topic = (
            self.views[name].source.topic for name in (WEATHER_VIEW, FLIGHTS_VIEW)
        )
        self.log = KafkaLog(self.place.kafka)
        self.stack.callback(self.log.close)
        self.before = self._counted()
        self.partitions = {topic: len(self.log.end_offsets(topic)) for topic in self.sources}
        topics = ", ".join(f"{topic}: {len(views)} views" for topic, views in self.sources.items())
        self.display.finish(At.INIT, topics)

    # ---- events
    def _history(self) -> None:
        """Readings one by one, as a producer sends them; flights from a file, by the feed."""
        step = self.display.begin(At.HISTORY)
        old = [r for r in self.departures if r["time_hour"] < self.size.live_from]
        write_lines(old, self.data / f"flights-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}.jsonl")  # a feed sends a name once
        feed = self.place.watershed("feed", "flights", log=self.logs / "feed.log")
        rows = [r for r in self.weather if r["observed_at"] < self.size.live_from]
        events = list(spread(rows, self.seed, WEATHER, late=0.01, broken=0.003))
        for n, event in enumerate(events):
            self.sender.send(self.weather_topic, event)
            step.show("readings are sent to Kafka, as fast as it goes", n, len(events))
        step.show("watershed feed sends a file of flights")
        for _ in self._running(feed):
            self.watcher.pause(self._healthy)
        self.sender.count(self.flights_topic, Kind.ON_TIME, len(old))
        self._await_all(step, "folded by the speed layer")
        self.display.finish(At.HISTORY, f"{len(events):,} readings, and {len(old):,} flights by a feed")

    def _first_night(self) -> None:
        for _ in self._night(At.NIGHT_1, self.size.live_from, "night-1.log"):
            self.watcher.pause(self._healthy)

    def _live(self) -> None:
        """Send at the set pace; meanwhile a table changes, a night runs, and after it an audit."""
        rows = [r for r in self.weather if r["observed_at"] >= self.size.live_from]
        flown = [r for r in self.departures if r["time_hour"] >= self.size.live_from]
        of = {
            self.weather_topic: spread(rows, self.seed + 1, WEATHER),
            self.flights_topic: spread(flown, self.seed + 2, FLIGHTS),
        }
        events = list(as_they_arrive(of))
        step = self.display.begin(At.LIVE)
        middle, over = self._middle(events[round(CHANGE_AT * len(events))][1].observed_at), False
        due_s = time.monotonic()
        for n, (topic, event) in enumerate(events):
            self.sender.send(topic, event)
            slowed = not over and n >= SLOWER_AT * len(events)
            due_s += 1 / (max(SLOWEST_PER_S, (len(events) - n) / STRETCH_S) if slowed else self.size.events_per_s)
            if n % 10 == 0:
                self._healthy()
                step.show(f"now {event.observed_at[:10]}", n, len(events))
                if n >= CHANGE_AT * len(events):
                    over = over or next(middle, OVER) is OVER
                time.sleep(max(0.0, due_s - time.monotonic()))  # the pace, not a wait for something
        self.display.finish(At.LIVE, f"{len(events):,} events, {_day(rows[0]):%b %d} to {_day(rows[-1]):%b %d}")
        for _ in middle:  # on a very slow machine
            self.watcher.pause(self._healthy)

    def _middle(self, observed_at: str) -> Iterator[None]:
        """A table changes; the second night; then an audit of whatever instant it hits; yields while they run."""
        yield from self._change()
        yield from self._night(At.NIGHT_2, observed_at, "night-2.log")
        self.display.begin(At.AUDIT_LIVE).show("a recompute of the log, while events arrive and are folded")
        audit = self.place.watershed("audit", log=self.logs / "audit-meanwhile.log")
        for _ in self._running(audit):
            yield
        self.audits.append(AuditFound("while events arrived", 0, None))
        self.display.finish(At.AUDIT_LIVE, "0 differences")

    def _change(self) -> Iterator[None]:
        """The file of the carriers gets another name for one of them, and is loaded; yields while that runs."""
        before = rename(self.data, RENAMED.carrier, RENAMED.after)
        self.display.begin(At.CHANGE).show(f"carrier {RENAMED.carrier}: {before} → {RENAMED.after}")
        for _ in self._running(self.place.watershed("load", "carriers", log=self.logs / "load-carriers.log")):
            yield
        self.adopted = cut = status(self.engine).ledger[self.flights_topic][-1]
        version = dict(cut.versions)["carriers"]
        self.display.finish(At.CHANGE, f"carriers, version {version}: {RENAMED.carrier} is {RENAMED.after}")

    def _night(self, at: At, observed_at: str, log: str) -> Iterator[None]:
        """A night as a child process, named by the date of the events; yields while it runs."""
        step = self.display.begin(at)
        ledgers = status(self.engine).ledger
        day = free_night(
            date.fromisoformat(observed_at[:10]), [cut for topic in self.sources for cut in ledgers[topic]]
        )
        night = self.place.night(day, self.logs / log)
        tasks = night_tasks(*((self.partitions[topic], len(views)) for topic, views in self.sources.items()))
        for _ in self._running(night):
            done, doing = night_progress(night)
            step.show(doing, min(done, tasks), tasks)
            yield
        cuts: list[Cut] = [status(self.engine).ledger[topic][-1] for topic in self.sources]
        records = sum(sum(cut.offsets) for cut in cuts)
        self.display.finish(at, f"{day} published: {records:,} records are the batch layer's now")

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
        ends = {topic: self.log.end_offsets(topic) for topic in self.sources}
        total = sum(map(sum, ends.values()))

        def reached() -> bool:
            self._healthy()
            looks = self._looks()
            step.show(what, sum(seen.position for seen in looks.values()), total)
            return len(looks) == len(ends) and all(
                f.position >= end
                for topic, seen in looks.items()
                for f, end in zip(seen.by_layer.freshness, ends[topic], strict=True)
            )

        if not wait_until(reached, LIMIT_S):
            raise ServerError(
                f"the speed layer did not reach the log's end ({ends}) within {LIMIT_S:g} s; see {self.worker.log}"
            )

    def _looks(self) -> dict[str, Seen]:
        """The newest look at each topic's view, where there was one."""
        scene = self.display.scene
        found = {self.weather_topic: scene.weather, self.flights_topic: scene.flights}
        return {topic: seen for topic, seen in found.items() if seen is not None}

    def _catch_up(self) -> None:
        step = self.display.begin(At.CAUGHT_UP)
        self._await_all(step, "folded by the speed layer")
        self.display.finish(At.CAUGHT_UP, f"the answer holds all {self._records():,} records of the log")

    def _records(self) -> int:
        return sum(seen.position for seen in self._looks().values())

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

        total = self._records()
        audit = Audit(
            self.engine, self.log, Lake(self.place.lake), random.SystemRandom().randrange(2**32), reference, progress
        )
        reports = audit.run(tuple(self.views.values()))
        differences = sum(r.differences + len(r.counts) for r in reports)
        self.audits.append(AuditFound(how, differences, reports))
        self.display.finish(at, f"{differences:,} differences in {sum(r.rows for r in reports):,} rows, {how}")

    def _chart(self) -> None:
        self.display.begin(At.CHART)
        from sandbox.chart import draw

        weather, delays, by_weather = (by_layer(self.engine, self.views[name], limit=100_000) for name in SHOWN_VIEWS)
        self.answer = delays.merged
        draw(weather, delays, by_weather, RENAMED, self.folder / PICTURE)
        self.display.finish(At.CHART, PICTURE)

    def _stop_and_tell(self) -> Findings:
        self._healthy()
        self.worker.stop(limit_s=30.0)
        finished(self.worker)
        counted, ledgers = self._counted(), status(self.engine).ledger
        generations = self._snapshot().generations
        topics = []
        for topic, views in self.sources.items():
            rejected = rejected_files(self.place.lake, views[0].source, generations[topic], ledgers[topic])
            fresh = self.before[topic].records == 0
            topics.append(OfTopic(topic, dict(self.sender.sent[topic]) if fresh else None, counted[topic], rejected))
        changed = Changed.found(RENAMED, "carriers", self.adopted, self.answer)
        return Findings(self.folder, self.place.lake, self.audits, topics, changed)

    def _snapshot(self) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            return snapshot(self.engine, [], Path(folder))

    def _counted(self) -> dict[str, Counts]:
        """Counts in serving.accounting of each topic, all partitions together."""
        accounting = self._snapshot().accounting
        return {topic: sum(accounting[topic], Counts()) for topic in self.sources}


def _shown_views(views: tuple[View, ...]) -> dict[str, View]:
    """By name; DefinitionError unless those are among them that the demo shows."""
    found = {view.name: view for view in views}
    for name in SHOWN_VIEWS:
        if name not in found:
            raise DefinitionError(
                f"the demo shows the view {name!r} of the module {VIEWS_MODULE!r}, which has {', '.join(found)}: put it back"
            )
    return found


def _day(reading: Row) -> date:
    return date.fromisoformat(reading["observed_at"][:10])
