"""A world: one source with its views, log, arbiter and lake in memory, and the processes that work on it.

    after every transaction: Reader.wrong() is None        what can be published is published when everybody is left in peace

Faults befall transactions: a reply is lost after it landed (lose), it does not land (refuse), or it is on its way (delay) and lands
at any later time, or never. The caller sees StoreUnavailable in all three.
"""

import random
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from pipeline.base.errors import LakeError, Refused, WatershedError
from pipeline.definition.view import View
from pipeline.handover import Committed, Fenced, Split
from pipeline.log.log import LogTruncated
from serving.postgres.connection import StoreUnavailable
from simulation import replacing
from simulation.actors import HURRY_S, LOOKS_S, NightContext, caught_up, run_task, simulated_worker
from simulation.definitions import Definition, variants
from simulation.events import events
from simulation.memory_lake import MemoryLake
from simulation.memory_log import MemoryLog, Partition
from simulation.memory_night import MemoryNightStore, MemoryOperatorStore, Untiled
from simulation.memory_replacement import MemoryGenerationStore, MemoryRefoldStore
from simulation.memory_speed import MemorySpeedStore
from simulation.memory_tables import GenerationTables, Tables
from simulation.oracle import Oracle
from simulation.reader import Reader
from simulation.schedule import Actor, Reach
from simulation.versions import made_up, write
from speed_layer.worker import Worker
from tasks import nightly
from tasks.night.night import Night
from tasks.night.purge import purge_source

FIRST_NIGHT = date(2013, 1, 1)
# These change nothing that is read; those in TOLD stand in a trace all the same.
UNSEEN = {"heartbeat", "farewell", "take", "renew", "release", "record_snapshot", "forget_snapshot", "seize", "begin"}
# transaction -> what it is counted as, when it replaced something
REPLACED = {"replace": "refold", "activate": "generation"}
TOLD = {"take", "seize", "begin"}
CATCH_UP_TURNS = 400
# what covered a night was rolled back just now; or it was replaced
AGAIN = ("is not staged", "is retired", "are not those on record")


class RunAgain(Exception):
    """A night came to nothing because of what another did meanwhile; Luigi runs it again."""


class Broken(Exception):
    """The promise is broken; the message says how."""


@dataclass(frozen=True)
class Stores:
    """The faces of the arbiter; a test plants a bug by giving another."""

    speed: type[MemorySpeedStore] = MemorySpeedStore
    night: type[MemoryNightStore] = MemoryNightStore
    operator: type[MemoryOperatorStore] = MemoryOperatorStore
    refold: type[MemoryRefoldStore] = MemoryRefoldStore
    generation: type[MemoryGenerationStore] = MemoryGenerationStore


@dataclass
class Sizes:
    """Sizes of a world."""

    partitions: int = 2
    workers: int = 2
    nights: int = 2
    records: int = 26
    decisions: int = 260


class World:
    """See the module. All randomness comes from `seed`, which each process draws from by a generator of its own; so does the log
    unless it is given: `parts` are its partitions, none written yet, and stand for `sizes.partitions`."""

    def __init__(
        self,
        views: Sequence[View],
        seed: int,
        sizes: Sizes,
        stores: Stores = Stores(),
        parts: Sequence[Partition] | None = None,
    ) -> None:
        self.views, self.seed, self.sizes = tuple(views), seed, sizes
        source = views[0].source
        if parts is None:
            parts = events(source, random.Random(f"{seed} events"), sizes.partitions, sizes.records)
        self.log = MemoryLog(source.topic, parts, self.point)
        self.variants = variants(self.views)
        self.oracles: dict[Any, Oracle] = {}
        self.rows = made_up(self.views, seed)
        self.newest = dict.fromkeys(sorted({name for name, _ in self.rows}), 1)  # version of each table that is loaded
        starts = tuple(p.start for p in parts)
        self.tables = Tables(source, self.views, f"id-of-{source.topic}", starts, versions=self.newest)
        self.tables.read, self.tables.write = self._read, self._write
        self.speed, self.night_store = stores.speed(self.tables), stores.night(self.tables)
        self.operator, self.refolds = stores.operator(self.tables), stores.refold(self.tables)
        self.generations = stores.generation(self.tables)
        self.crash = Reach(self.point)
        self.lake = MemoryLake(self.crash, self.point)
        self.reader = Reader(self.tables, self.oracle)
        self.contexts: dict[str, NightContext] = {}
        self.current: Actor | None = None
        self.actors: dict[str, Actor] = {}
        self.flights: deque[tuple[str, str, Callable[[], Any]]] = deque()
        self.unfinished: set[date] = set()
        self.running: dict[str, date] = {}
        self.dates = 0
        self.workers: dict[str, Worker] = {}  # by the name of the process
        self.births: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()
        self.trace: list[str] = []
        self.broken: str | None = None
        write(self.lake, self.rows)

    # ---- points and transactions
    def point(self, name: str) -> None:
        """A place where the running process may be interrupted."""
        if self.current is not None:
            self.seen["points"] += 1
            self.current.point()

    def _read(self, what: str, body: Callable[[], Any]) -> Any:
        self.point(what)
        return body()

    def _write(self, what: str, body: Callable[[], Any]) -> Any:
        self.point(what)
        actor = self.current
        if actor is None or actor.fate == "run":
            found = self._apply(what, body, actor.name if actor else "peace")
            self.point(f"{what}.replied")
            return found
        fate, actor.fate = actor.fate, "run"
        if fate == "lose":
            self._apply(what, body, actor.name, ", reply lost")
            self.seen[f"lost {what}"] += 1
        elif fate == "delay":
            self.flights.append((what, actor.name, body))
            self.say(f"{actor.name}: {what} is delayed, connection lost")
        else:
            self.say(f"{actor.name}: {what} does not land, connection lost")
        raise StoreUnavailable("Postgres in memory broke off: try again")

    def _apply(self, what: str, body: Callable[[], Any], who: str, note: str = "") -> Any:
        held = self._held() if what == "take" else set()
        try:
            found = body()
        except WatershedError as error:
            self.say(f"{who}: {what}{note}: {type(error).__name__}: {error}")
            if isinstance(error, Untiled):
                self._break(f"STUCK: {error}")
            raise
        self._count(what, found, held)
        if what not in UNSEEN or what in TOLD:
            self.say(f"{who}: {what} {_told(found)}{note}")
        if what not in UNSEEN:
            self.seen["readings"] += 1
            wrong = self.reader.wrong()
            if wrong:
                self._break(wrong)
        return found

    def _held(self) -> set[tuple[int, int]]:
        """(generation, partition) of the rows that somebody owns, alive or not."""
        return {
            (n, p)
            for n, t in self.tables.generations.items()
            for p, row in enumerate(t.positions)
            if row.owner is not None
        }

    def _count(self, what: str, found: Any, held: set[tuple[int, int]]) -> None:
        if what == "take" and found is not None and (found.generation, found.partition) in held:
            self.seen["takeover"] += 1
        elif what in REPLACED and found:
            self.seen[REPLACED[what]] += 1
        elif isinstance(found, Split):
            self.seen["split"] += 1
        elif isinstance(found, Fenced):
            self.seen["fenced"] += 1
        elif isinstance(found, Committed):
            self.seen["commit"] += 1
        elif what == "publish":
            self.seen[str(found).replace("published", "publish")] += 1
        elif what in ("rollback", "purge"):
            self.seen[what] += 1
        elif what == "adopt":
            self.seen["adoption"] += found.status == "adopted"

    def say(self, line: str) -> None:
        """Note what happened, for the trace of a failure."""
        self.trace.append(line)

    def _break(self, how: str) -> None:
        if self.broken is None:
            self.broken = how
        raise Broken(how)

    # ---- processes
    def born(self, slot: str) -> Actor:
        """The process in a slot, a new one after a crash; for `renewer0`, the second thread of the process in `worker0`."""
        kind = slot.rstrip("0123456789")
        found = self.actors.get(slot)
        if kind == "renewer":
            process = self.born(slot.replace("renewer", "worker")).name
            thread = f"{process}.leases" if process in self.workers else f"{process} starts"
            if found is None or found.name != thread:
                found = self.actors[slot] = Actor(thread, lambda: self._renewer(process))
        elif found is None or found.done:
            self.kill(slot)
            self.births[slot] += 1
            name = f"{slot}.{self.births[slot]}"
            rng = random.Random(f"{self.seed} {name}")
            bodies: dict[str, Callable[[], None]] = {
                "worker": lambda: self._worker(name, rng),
                "night": lambda: self._night(slot, name, rng),
                "operator": lambda: self._operator(rng),
                "load": lambda: replacing.load(self, rng),
                "refold": lambda: replacing.refold(self, name, rng),
                "init": lambda: replacing.init(self, name, rng),
            }
            found = self.actors[slot] = Actor(name, bodies[kind])
        return found

    def kill(self, slot: str) -> None:
        """The process in a slot dies where it is, with all of its threads."""
        before = self.current
        for thread in sorted(
            {slot, slot.replace("worker", "renewer"), slot.replace("renewer", "worker")} & set(self.actors)
        ):
            self.current = self.actors[thread]
            self.current.kill()
        self.current = before

    @property
    def in_force(self) -> Definition:
        """The definitions that are on record, as a process is started with now."""
        return tuple(self.reader.answering.views.values())

    def oracle(self, t: GenerationTables) -> Oracle:
        """Oracle that recomputes by the definitions of a generation."""
        adopted = [(cut.offsets, cut.versions) for cut in t.cuts if cut.versions]
        key = t.generation.source_fingerprint, *sorted(t.generation.views.items()), *adopted
        if key not in self.oracles:
            views, rows = list(t.views.values()), self.rows
            self.oracles[key] = Oracle(views, self.log.parts, list(t.cuts), lambda *one: rows[one].to_pylist())
        return self.oracles[key]

    @property
    def night(self) -> Night:
        """The night of the active generation, in the process that runs."""
        return self.context().night(self.tables.topic)

    def context(self) -> NightContext:
        """Parts that tasks.nightly works with in the process that runs: the definitions it was started with."""
        name = self.current.name if self.current is not None else "peace"
        if name not in self.contexts:
            self.contexts[name] = self.started_with(self.in_force)
        return self.contexts[name]

    def started_with(self, views: Definition) -> NightContext:
        """The context of a process that is started with these definitions."""
        return NightContext(views, self.generations, self.night_store, self.log, self.lake, self.crash)

    def worker(self, name: str, rng: random.Random, looks_s: Sequence[float] = LOOKS_S) -> Worker:
        """A new worker process."""
        views = self.in_force
        generation = self.generations.require(views[0].source, views)
        return simulated_worker(name, self.speed, self.log, self.lake, self.crash, views, generation, rng, looks_s)

    def _worker(self, name: str, rng: random.Random) -> None:
        try:
            worker = self.workers[name] = self.worker(name, rng)
            while True:
                worker.step()
                self.point("turn")
        except LogTruncated:
            raise
        except (Refused, LakeError) as error:  # a purge or a rebuild came in between: it is started again
            self.seen["worker ended"] += 1
            self.say(f"{name}: ends: {error}")

    def _renewer(self, process: str) -> None:
        """The thread that renews the leases of a worker, for as long as the process lives."""
        if process in self.workers:  # it has read which generation it works for
            self.workers[process].ownership.renew_until(threading.Event())

    def _night(self, slot: str, name: str, rng: random.Random) -> None:
        others = sorted(day for other, day in self.running.items() if other != slot and day in self.unfinished)
        if others and rng.random() < 0.4:
            day = rng.choice(others)
        elif self.unfinished and rng.random() < 0.6:
            day = rng.choice(sorted(self.unfinished))
        else:
            day = self.new_day()
        self.running[slot] = day
        self.say(f"{name}: begins the night {day}")
        with suppress(StoreUnavailable, LakeError, RunAgain):  # Luigi runs it again
            self.run_night(day)
            if rng.random() < 0.3:
                with suppress(Refused):  # it is published; the next night purges
                    self.purge(2)

    def new_day(self) -> date:
        """A date that had no night yet."""
        self.dates += 1
        day = FIRST_NIGHT + timedelta(days=self.dates)
        self.unfinished.add(day)
        return day

    def run_night(self, day: date) -> None:
        """The Luigi tasks of one night, as Nightly requires them, up to publish; a night that was withdrawn is over too."""
        try:
            run_task(night_of(nightly.ChooseCut, day))
            cut = self.night.choose(day)
            run_task(night_of(nightly.Publish, cut.topic, cut.generation, cut.number, False))
        except (Untiled, LogTruncated):
            raise
        except Refused as refused:
            if self.current is not None and any(why in str(refused) for why in AGAIN):
                raise RunAgain from refused
            if not any(why in str(refused) for why in replacing.OVER):
                raise
            self.say(f"the night {day} is refused: {refused}")
        self.unfinished.discard(day)

    def purge(self, keep: int) -> None:
        """The shipped purge, on the arbiter in memory."""
        purge_source(self.night, self.operator, self.generations, keep)

    def _operator(self, rng: random.Random) -> None:
        with suppress(StoreUnavailable, LakeError, Refused):
            if rng.random() < 0.5:
                self.operator.rollback(self.night.generation)
            else:
                self.purge(rng.choice([1, 1, 2]))

    # ---- peace
    def settle(self) -> None:
        """Everybody dies, then one worker and one night are left in peace: all of the log is published and served."""
        for slot in list(self.actors):
            self.kill(slot)
        self.current = None
        self.flights.clear()
        self.tables.now_s += 1000
        for part in self.log.parts:
            part.append(len(part.stops))
        replacing.finish(self)
        for day in sorted(self.unfinished):
            self.run_night(day)
        worker = self.worker("peace", random.Random(self.seed), HURRY_S)
        turns = 0
        while not caught_up(worker, self.log):
            worker.ownership.renew()
            worker.step()
            turns += 1
            if turns > CATCH_UP_TURNS:
                self._break("a worker that is left in peace does not catch up with the log")
        self.run_night(self.new_day())
        ends = tuple(p.end for p in self.log.parts)
        t = self.reader.answering
        cut = t.cuts[t.visible]
        if cut.offsets != ends or any(r.position != end for r, end in zip(t.positions, ends, strict=True)):
            self._break(f"at the end of the log {list(ends)} the visible cut is {list(cut.offsets)}")
        wrong = self.reader.wrong()
        if wrong:
            self._break(wrong)


def night_of(task: Any, *parameters: Any) -> Any:
    """A Luigi task; luigi's own classes have no types."""
    return task(*parameters)


def _told(found: Any) -> str:
    match found:
        case Committed(claim):
            return f"[.., {claim.position}) of partition {claim.partition} lands; segment {claim.segment}, epoch {claim.epoch}"
        case Split(at):
            return f"is split at the cut {at}"
        case Fenced():
            return "is fenced"
        case None:
            return "done"
    return str(found)
