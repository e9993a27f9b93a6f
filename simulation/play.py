"""Playing schedules: drawn from a seed, or given; the first broken promise ends one.

play(seed) = play(seed, decisions that play(seed) drew)
"""

import logging
import random
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog

from pipeline.definition.view import View
from simulation.memory_log import Partition
from simulation.schedule import Actor, Decision
from simulation.world import Broken, Sizes, Stores, World
from tasks import nightly
from tasks.night import fold as folding

LEASE_S = 3
REPLACING = ("refold", "init")  # `watershed rebuild`, `watershed init --rebuild`; two of each at once
REPLACING_SHARE = 0.35  # of the schedules have each


@dataclass
class Played:
    """Result of one schedule: what happened how often, and how it broke, if it did, after which of its decisions.

    `seen` counts steps, points (places where somebody could be interrupted), readings, and what befell whom.
    """

    seed: int
    broken: str | None
    seen: Counter[str]
    decisions: list[Decision]
    trace: list[str] = field(default_factory=list)


@contextmanager
def quiet() -> Iterator[None]:
    """Workers' log lines about what is done to them on purpose would fill the screen."""
    before = structlog.get_config()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL), cache_logger_on_first_use=False
    )
    try:
        yield
    finally:
        structlog.configure(**before)


@contextmanager
def nights_of(world: World) -> Iterator[None]:
    """Luigi's tasks work with this world's parts, in this process, as long as it runs; a view is folded a file at a time."""
    before = vars(nightly)["context"], folding.ROUND_CHUNKS, folding.CHUNK_ROWS
    setattr(nightly, "context", world.context)  # noqa: B010 -- mypy: a function is no variable
    folding.ROUND_CHUNKS = folding.CHUNK_ROWS = 1
    try:
        yield
    finally:
        setattr(nightly, "context", before[0])  # noqa: B010
        folding.ROUND_CHUNKS, folding.CHUNK_ROWS = before[1:]


def play(
    views: Sequence[View],
    seed: int,
    sizes: Sizes,
    stores: Stores | None = None,
    decisions: Sequence[Decision] | None = None,
    parts: Sequence[Partition] | None = None,
) -> Played:
    """One schedule from its seed; with `decisions` or `parts` (the log, none of it written yet), these instead of the seed's own."""
    world = World(views, seed, sizes, stores or Stores(), parts)
    made: list[Decision] = []
    with quiet(), nights_of(world):
        source = decisions_of(seed, sizes, bool(world.newest)) if decisions is None else iter(decisions)
        try:
            for decision in source:
                made.append(decision)
                perform(world, decision)
            world.say("everybody is left in peace")
            world.settle()
        except Broken:
            world.say(f"=> {world.broken}")
        except Exception as error:  # the code under test raised what it never may
            world.broken = f"{type(error).__name__}: {error}"
            world.trace += ["=> " + line for line in traceback.format_exc().splitlines()[-12:]]
        finally:
            for slot in list(world.actors):
                world.kill(slot)
    return Played(seed, world.broken, world.seen, made, world.trace if world.broken else [])


def decisions_of(seed: int, sizes: Sizes, loads: bool = False) -> Iterator[Decision]:
    """The seed's own decisions; with `loads` versions of tables are adopted."""
    return draw(sizes, random.Random(f"{seed} decisions"), loads)


def draw(sizes: Sizes, rng: random.Random, loads: bool = False) -> Iterator[Decision]:
    """Decisions for a world of that size."""
    workers, nights = [f"worker{n}" for n in range(sizes.workers)], [f"night{n}" for n in range(sizes.nights)]
    resting = rng.randrange(sizes.partitions) if rng.random() < 0.3 else None
    calm = rng.choice([0.0, 0.5, 0.9])  # how rarely things go wrong
    shares: dict[str, float] = {"log": rng.choice([2, 4]), "worker": rng.choice([4, 8]), "night": rng.choice([3, 6])}
    shares |= {"renewer": 1.2, "operator": 1.2, "clock": 0.7, "network": 0.5}
    shares |= {kind: 1.5 for kind in REPLACING if rng.random() < REPLACING_SHARE}
    shares |= {"load": 0.8} if loads else {}
    for _ in range(sizes.decisions):
        kind = rng.choices(list(shares), list(shares.values()))[0]
        if kind == "log":
            partition = rng.randrange(sizes.partitions)
            if partition != resting or rng.random() < 0.1:
                yield Decision(f"log{partition}", rng.randint(1, 3))
                continue
            kind = "worker"
        if kind == "clock":
            yield Decision("clock", rng.choice([1, LEASE_S + 1]))
        elif kind == "network":
            yield Decision("network", 1, rng.choice(["land", "land", "drop"]))
        else:
            slots = {
                "worker": workers,
                "renewer": [f"renewer{n}" for n in range(sizes.workers)],
                "night": nights,
                "operator": ["operator"],
                "load": ["load"],
            }
            name = rng.choice(slots.get(kind) or [f"{kind}0", f"{kind}1"])
            most = {"worker": 24, "renewer": 9, "night": 120, "operator": 12, "load": 8, "refold": 60, "init": 160}[
                kind
            ]
            fate = (
                "run"
                if rng.random() < calm
                else rng.choices(["run", "crash", "lose", "refuse", "delay"], [10, 1, 2, 0.7, 1.3])[0]
            )
            yield Decision(name, min(most, 1 + int(rng.expovariate(3 / most))), fate)


def perform(world: World, decision: Decision) -> None:
    """Let one decision happen."""
    kind = decision.actor.rstrip("0123456789")
    world.seen["steps"] += 1
    if kind == "log":
        world.log.parts[int(decision.actor[3:])].append(decision.points)
    elif kind == "clock":
        world.tables.now_s += decision.points
    elif kind == "network":
        _deliver(world, decision.fate)
    else:
        _let(world, world.born(decision.actor), decision)


def _deliver(world: World, fate: str) -> None:
    if not world.flights:
        return
    what, name, body = world.flights.popleft()
    if fate == "land":
        world.seen["delayed"] += 1
        try:
            world._apply(what, body, name, ", late")
        except Broken:
            raise
        except Exception as error:  # nobody is there any more to hear of it
            world.say(f"{name}: the late {what} is refused: {error}")


def _let(world: World, actor: Actor, decision: Decision) -> None:
    world.current = actor
    if decision.fate == "crash":
        world.seen["crash"] += 1
        world.say(f"{actor.name}: crashes")
        world.kill(decision.actor)
    else:
        if decision.fate != "run":
            actor.fate = decision.fate
        actor.run(decision.points)
    world.current = None
    if actor.error is not None:
        error, actor.error = actor.error, None
        raise error
