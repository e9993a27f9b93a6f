"""Identity snapshots of a worker's own, so that a takeover replays a minute of the log, not a day.

    snapshot(position) = identities of log[0, position), position committed        its file is there  =>  a row of ops.snapshots names it

A shortcut, never needed: one that is missing, not yet written or of another log is passed over for the next older one, and at last for
that of the batch. It is recorded, then written, then those before it are deleted; whoever dies between leaves nothing that no row names.
"""

import threading
import time
from dataclasses import dataclass, field

import pyarrow as pa
import structlog

from pipeline.accept.dedupe import Identities, IdentitySnapshot
from pipeline.accept.identity_files import read_identities, write_identities
from pipeline.base.crash import CrashPoints, NoCrash
from pipeline.base.errors import LakeError
from pipeline.handover import Claim, Generation, SnapshotStore
from pipeline.lake import layout
from pipeline.lake.lake import Lake

SNAPSHOT_EVERY_S = 60.0
CLOSE_S = 10.0
log = structlog.get_logger("speed")


@dataclass(frozen=True)
class Snapshots:
    """Where a source's snapshots are: the lake's files, and the store's rows that name them."""

    store: SnapshotStore
    lake: Lake
    generation: Generation

    def inputs(self, claim: Claim, position: int) -> dict[str, object]:
        """What a snapshot is made from. The log's start is among it: a generation that began later knows less."""
        start = {"generation": claim.generation, "log_start": self.generation.starts[claim.partition]}
        return layout.identity_inputs(self.generation.topic_id, claim.partition, position) | start

    def newest(self, claim: Claim, above: int) -> IdentitySnapshot | None:
        """The newest that is there, at or below the claim's position and above `above`."""
        for recorded in self.store.snapshots(claim):
            if recorded.position <= above:
                break
            try:
                found = read_identities(self.lake, recorded.path, self.inputs(claim, recorded.position))
            except (LakeError, pa.ArrowInvalid) as error:
                log.warning("snapshot passed over", topic=claim.topic, partition=claim.partition, path=recorded.path, why=str(error))
                continue
            if found is not None:
                return found
        return None

    def path(self, claim: Claim) -> str:
        """Where the claim's takeover writes its snapshot at its position."""
        fingerprint = self.generation.source_fingerprint
        return layout.worker_identities(claim.topic, fingerprint, claim.partition, claim.position, claim.generation, claim.epoch)

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


@dataclass
class SnapshotWriter:
    """Writes in the background, one at a time, each partition every `every_s`.

    A full disk, or a store that is down (`transient`), costs the snapshot and nothing else.
    """

    transient: tuple[type[BaseException], ...]
    every_s: float = SNAPSHOT_EVERY_S
    crash: CrashPoints = field(default_factory=NoCrash)
    failed: BaseException | None = None  # what must end the worker
    _thread: threading.Thread | None = None
    _last_s: dict[tuple[str, int, int], float] = field(default_factory=dict)  # (topic, partition, epoch) -> when

    def due(self, claim: Claim) -> bool:
        """Whether after_commit would write one: the memory must be at the position that is committed then."""
        now = time.monotonic()
        last = self._last_s.setdefault((claim.topic, claim.partition, claim.epoch), now)
        return now - last >= self.every_s and not (self._thread is not None and self._thread.is_alive())

    def after_commit(self, snapshots: Snapshots, claim: Claim, identities: Identities) -> None:
        """Call when claim.position is committed and `identities` is the memory at just that position."""
        if not self.due(claim):
            return
        self._last_s[claim.topic, claim.partition, claim.epoch] = time.monotonic()
        memory = identities.copied(claim.position)
        self._thread = threading.Thread(target=self._write, args=(snapshots, claim, memory), name="snapshot", daemon=True)
        self._thread.start()

    def _write(self, snapshots: Snapshots, claim: Claim, memory: IdentitySnapshot) -> None:
        where = {"topic": claim.topic, "partition": claim.partition, "position": claim.position}
        began = time.monotonic()
        passing: tuple[type[BaseException], ...] = (*self.transient, LakeError)
        try:
            landed = snapshots.write(claim, memory, self.crash)
        except passing as error:
            log.warning("no snapshot this time", **where, why=str(error))
        except Exception as error:  # the worker ends with it: the main thread raises it
            self.failed = error
        else:
            if landed:
                log.info("snapshot", **where, identities=len(memory.hashes), took_s=round(time.monotonic() - began, 3))

    def close(self) -> None:
        """Let the one that is being written come to its end."""
        if self._thread is not None:
            self._thread.join(timeout=CLOSE_S)
