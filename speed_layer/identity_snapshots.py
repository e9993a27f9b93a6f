"""Identity snapshots of a worker's own, so that a takeover replays a minute of the log, not a day.

    snapshot(position) = identities of log[0, position), position committed        its file is there  =>  a row of ops.snapshots names it

A shortcut, never needed: one that is missing, not yet written or of another log is passed over for the next older one, and at last for
that of the batch. It is recorded, then written, then those before it are deleted; whoever dies between leaves nothing that no row names.
"""

from collections.abc import Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass

import pyarrow as pa
import structlog

from pipeline.accept.dedupe import IdentitySnapshot
from pipeline.accept.identity_files import read_identities, write_identities
from pipeline.base.crash import CrashPoints, NoCrash
from pipeline.base.errors import LakeError
from pipeline.handover import Claim, Clock, Generation, SnapshotStore
from pipeline.lake import layout
from pipeline.lake.lake import Lake
from speed_layer.executors import Executor

SNAPSHOT_EVERY_S = 60.0
CLOSE_S = 10.0
log = structlog.get_logger("speed")


@dataclass(frozen=True)
class Snapshots:
    """The snapshots of a source: the lake's files, and the store's rows that name them."""

    store: SnapshotStore
    lake: Lake
    generation: Generation

    def inputs(self, claim: Claim, position: int) -> dict[str, object]:
        """Inputs that a snapshot's manifest must name. The log's start is among it: a generation that began later knows less."""
        start = {"generation": claim.generation, "log_start": self.generation.starts[claim.partition]}
        return layout.identity_inputs(self.generation.topic_id, claim.partition, position) | start

    def newest(self, claim: Claim, above: int) -> IdentitySnapshot | None:
        """The newest snapshot that is there, at or below the claim's position and above `above`."""
        for recorded in self.store.snapshots(claim):
            if recorded.position <= above:
                break
            try:
                found = read_identities(self.lake, recorded.path, self.inputs(claim, recorded.position))
            except (LakeError, pa.ArrowInvalid) as error:
                log.warning(
                    "snapshot passed over",
                    topic=claim.topic,
                    partition=claim.partition,
                    path=recorded.path,
                    why=str(error),
                )
                continue
            if found is not None:
                return found
        return None

    def path(self, claim: Claim) -> str:
        """Path, without an ending, of the snapshot that the claim's takeover writes at its position."""
        fingerprint = self.generation.source_fingerprint
        return layout.worker_identities(
            claim.topic, fingerprint, claim.partition, claim.position, claim.generation, claim.epoch
        )

    def write(self, claim: Claim, memory: IdentitySnapshot, crash: CrashPoints) -> bool:
        """Record, write, and delete those before it; False when the claim is fenced."""
        path = self.path(claim)
        if not self.store.record_snapshot(claim, path):
            return False
        crash.reach("snapshot.recorded")
        write_identities(self.lake, path, self.inputs(claim, claim.position), memory.in_order())
        crash.reach("snapshot.written")
        for old in self.store.superseded(claim, path):
            self.lake.delete_manifest(layout.manifest(old))
            self.lake.delete(f"{old}.parquet")
            crash.reach("snapshot.deleted")
            self.store.forget_snapshot(claim, old)
        return True


class SnapshotWriter:
    """Writes snapshots by `executor`, one at a time, each partition every `every_s`; `snapshots` is by topic, and a topic may lack.

    A full disk, or a store that is down (`transient`), costs the snapshot and nothing else; any other error is left in `failed`, and must
    end the worker.
    """

    def __init__(
        self,
        snapshots: Mapping[str, Snapshots],
        executor: Executor,
        clock: Clock,
        *,
        transient: tuple[type[BaseException], ...] = (),
        every_s: float = SNAPSHOT_EVERY_S,
        crash: CrashPoints | None = None,
    ) -> None:
        self.snapshots, self.executor, self.clock, self.every_s = snapshots, executor, clock, every_s
        self.passing: tuple[type[BaseException], ...] = (*transient, LakeError)
        self.crash = crash or NoCrash()
        self.failed: BaseException | None = None
        self._writing: Future[None] | None = None
        self._last_s: dict[
            tuple[str, int, int], float
        ] = {}  # (topic, partition, epoch) -> when one was begun, or it was taken

    def due(self, claim: Claim) -> bool:
        """True when write() should be called as soon as the memory is at the claim's position; a takeover counts as a snapshot."""
        if claim.topic not in self.snapshots:
            return False
        now_s = self.clock.monotonic()
        last_s = self._last_s.setdefault((claim.topic, claim.partition, claim.epoch), now_s)
        return now_s - last_s >= self.every_s and (self._writing is None or self._writing.done())

    def write(self, claim: Claim, memory: IdentitySnapshot) -> None:
        """Begin to write `memory`: a copy of its own of the identities at claim.position, which is committed."""
        self._last_s[claim.topic, claim.partition, claim.epoch] = self.clock.monotonic()
        self._writing = self.executor.submit(lambda: self._write(claim, memory))

    def _write(self, claim: Claim, memory: IdentitySnapshot) -> None:
        where = {"topic": claim.topic, "partition": claim.partition, "position": claim.position}
        began_s = self.clock.monotonic()
        try:
            landed = self.snapshots[claim.topic].write(claim, memory, self.crash)
        except self.passing as error:
            log.warning("no snapshot this time", **where, why=str(error))
        except Exception as error:  # the worker ends with it: its own thread raises it
            self.failed = error
        else:
            if landed:
                log.info(
                    "snapshot",
                    **where,
                    identities=len(memory.hashes),
                    took_s=round(self.clock.monotonic() - began_s, 3),
                )

    def close(self) -> None:
        """Let the one that is being written come to its end, for CLOSE_S at most."""
        if self._writing is not None:
            wait([self._writing], timeout=CLOSE_S)
