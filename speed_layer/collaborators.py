"""Everything that a worker talks to, by name: production gives Kafka, Postgres, the lake and this machine's clock.

Invariant: a worker reaches nothing else, so that a test or the simulation that gives its own holds all of its world.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from pipeline.base.crash import CrashPoints, NoCrash
from pipeline.decode.schemas import SchemasOf, no_schemas
from pipeline.definition.source import Source
from pipeline.definition.view import View
from pipeline.fold.in_force import TableVersions
from pipeline.handover import Clock, Generation, SnapshotStore, SpeedStore, SystemClock
from pipeline.lake.lake import Lake
from pipeline.log.log import Log
from speed_layer.executors import Executor, InCaller, InThreads
from speed_layer.fetch_ahead import Reader
from speed_layer.identity_snapshots import SNAPSHOT_EVERY_S, Snapshots

LEASE_S = 3.0


@dataclass(frozen=True)
class ActiveSource:
    """A source, the views over it, and the generation in force, which was made for just these definitions (serving.setup.require)."""

    source: Source
    views: Sequence[View]
    generation: Generation


@dataclass(frozen=True, kw_only=True)
class Collaborators:
    """The parts of a worker. `transient` are the errors of a store, log or lake that is down: the worker waits and tries again.

    `schemas` are asked by `asking` for what they do not know, while other partitions go on. Without `snapshot_store` no identity
    snapshots are written or read: a takeover replays the log from the batch's. Large blocks are folded by `folding` (None: by the
    caller), commits sent by `committing`, snapshots written by `snapshotting`. Leases last `lease_s`; a partition's snapshot is
    `snapshot_every_s` old at most while it is read. Whoever makes the executors ends them.
    """

    store: SpeedStore
    log: Log
    reader: Reader
    lake: Lake
    snapshot_store: SnapshotStore | None = None
    transient: tuple[type[BaseException], ...] = ()
    clock: Clock = field(default_factory=SystemClock)
    crash: CrashPoints = field(default_factory=NoCrash)
    schemas: SchemasOf = no_schemas
    asking: Executor = field(default_factory=InCaller)
    folding: Executor | None = None
    committing: Executor = field(default_factory=InCaller)
    snapshotting: Executor = field(default_factory=lambda: InThreads("snapshot"))
    lease_s: float = LEASE_S
    snapshot_every_s: float = SNAPSHOT_EVERY_S

    @cached_property
    def table_versions(self) -> TableVersions:
        """The versions of tables that are looked up, shared by all partitions."""
        return TableVersions(self.lake)

    def snapshots(self, generation: Generation) -> Snapshots | None:
        """The workers' own identity snapshots of a generation's topic; None without a `snapshot_store`."""
        return Snapshots(self.snapshot_store, self.lake, generation) if self.snapshot_store is not None else None
