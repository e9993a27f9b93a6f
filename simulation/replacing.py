"""An operator who replaces what answers: the shipped refold, the shipped rebuild and the end of a load, as processes of a world.

They may die or be overtaken anywhere, also by their own twin; what they are refused for then is told, and everything else is a bug.
"""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from pipeline.base.errors import LakeError, Refused
from pipeline.handover.replacement import Plan
from serving.postgres.connection import StoreUnavailable
from simulation.actors import run_task
from simulation.definitions import Definition
from simulation.memory_night import Untiled
from simulation.versions import MADE
from speed_layer.refold import LEASE_S, SourceRefold
from tasks.executors import Inline
from tasks.operator.generation import Mending

if TYPE_CHECKING:
    from simulation.world import World

OVER = ("withdrawn", "below everything", "is published", "is purged")  # why nothing is left to do for a batch
# Another was faster. Each of these says what to run again.
CROSSED = (
    *("is retired", "are not those on record", "is not being built", "has no published batch yet"),
    *("rolled back all the while", "run `watershed init --rebuild` again: it goes on"),
)


def refold(world: "World", name: str, rng: random.Random) -> None:
    """`watershed rebuild`, one partition after another."""
    views = world.in_force
    source = views[0].source
    with _told(world, name):
        generation = world.generations.require(source, views)
        # Of 0 s: it has run out before it is used
        stores, lease_s = ((world.refolds, world.night_store), rng.choice([0.0, LEASE_S]))
        how: dict[str, Any] = {"from_start": rng.random() < 0.3, "worker": name, "near": 1, "lease_s": lease_s}
        work = SourceRefold(source, views, generation, *stores, world.log, world.lake, **how)
        for partition in rng.sample(range(generation.partitions), generation.partitions):
            work.partition(partition)


def init(world: "World", name: str, rng: random.Random) -> None:
    """`watershed init --rebuild`, with definitions that may be those on record: then it mends what the lake lacks."""
    views = rng.choice(world.variants)
    world.contexts[name] = world.started_with(views)
    with _told(world, name):
        rebuild(world, name, views)


def load(world: "World", rng: random.Random) -> None:
    """The end of a load: its version is adopted; one that died before that is adopted by the next."""
    if not world.newest:
        return
    name = rng.choice(list(world.newest))
    if rng.random() < 0.8:
        world.newest[name] = min(world.newest[name] + 1, MADE)
    with suppress(StoreUnavailable, Refused):  # a rebuild came in between: it is run again
        generation, ends = world.night.generation, world.log.end_offsets(world.tables.topic)
        world.night_store.adopt(generation, {name: world.newest[name]}, tuple(ends))


def rebuild(world: "World", name: str, views: Definition) -> None:
    """The part of tasks.operator.init.init that is one source's, in a process that was started with these definitions."""
    source = views[0].source
    plan = Plan(
        source,
        world.log.topic_id(source.topic),
        tuple(world.log.start_offsets(source.topic)),
        views,
        dict(world.newest),
    )

    def build(tasks: Sequence[Any]) -> bool:
        try:
            for task in tasks:
                run_task(task)
        except Untiled:
            raise
        except Refused as refused:
            if not any(why in str(refused) for why in (*CROSSED, *OVER)):
                raise
            world.say(f"{name}: {refused}")
            return False
        return True

    def say(line: str) -> None:
        world.say(f"{name}: {line}")

    active = world.generations.active(source.topic)
    assert active is not None, "the first generation is there from the start"
    Mending(plan, world.generations, world.night_store, world.log, world.lake, build, world.crash, say, Inline()).mend(
        active
    )


def finish(world: "World") -> None:
    """In peace a rebuild that died is run again, or left as it is: what answers goes on either way."""
    begun = world.tables.newest("building")
    if begun is not None and random.Random(f"{world.seed} peace").random() < 0.7:
        views = tuple(begun.views.values())
        world.contexts["peace"] = world.started_with(views)
        rebuild(world, "peace", views)
    world.contexts.pop("peace", None)


@contextmanager
def _told(world: "World", name: str) -> Iterator[None]:
    try:
        yield
    except (StoreUnavailable, LakeError) as error:
        world.say(f"{name}: ends: {error}")
    except Refused as refused:
        if not any(why in str(refused) for why in CROSSED):
            raise
        world.say(f"{name}: is refused: {refused}")
