"""The in-memory arbiter as a worker sees it: serving.stores.speed and serving.ops.leases, rule by rule.

commit lands  <=>  the row still has my epoch, owner, start and segment, no chosen cut is strictly in [start, end), and the versions
                   of tables that it was folded with are in force at its start
"""

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

import pyarrow as pa

from pipeline.handover import (
    Claim,
    Commit,
    Committed,
    Cut,
    Fenced,
    Generation,
    LeaseRow,
    Outcome,
    Split,
    ViewCounts,
    WorkerSnapshot,
)
from pipeline.handover.versions import Versions
from simulation.memory_tables import Position, Segment, Tables


def claim_of(generation: Generation, partition: int, row: Position) -> Claim:
    """The row as its owner knows it."""
    assert row.owner is not None
    return Claim(
        generation.topic, generation.number, partition, row.owner, row.epoch, row.position, row.segment, row.witness
    )


class MemorySpeedStore:
    """pipeline.handover.SpeedStore and SnapshotStore on Tables. Time is `tables.now_s`."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables

    def active(self, topic: str) -> Generation | None:
        def body() -> Generation | None:
            active = self.tables.newest("active")
            return active.generation if active is not None and topic == self.tables.topic else None

        found: Generation | None = self.tables.read("active", body)
        return found

    def heartbeat(self, topic: str, worker: str, ttl_s: float) -> list[str]:
        def body() -> list[str]:
            self.tables.workers[topic, worker] = self.tables.now_s + ttl_s
            return sorted(
                w for (t, w), until in self.tables.workers.items() if t == topic and until > self.tables.now_s
            )

        living: list[str] = self.tables.write("heartbeat", body)
        return living

    def farewell(self, topic: str, worker: str) -> None:
        self.tables.write("farewell", lambda: self.tables.workers.pop((topic, worker), None))

    def leases(self, generation: Generation) -> list[LeaseRow]:
        def body() -> list[LeaseRow]:
            rows = enumerate(self.tables.in_force(generation).positions)
            return [LeaseRow(p, r.position, r.worker, r.owner, self._held(r)) for p, r in rows]

        found: list[LeaseRow] = self.tables.read("leases", body)
        return found

    def _held(self, row: Position) -> bool:
        return row.owner is not None and row.lease_until_s > self.tables.now_s

    def take(self, generation: Generation, partition: int, worker: str, lease_s: float) -> Claim | None:
        def body() -> Claim | None:
            row = self.tables.in_force(generation).positions[partition]
            if self._held(row):
                return None
            row.owner, row.worker, row.epoch = self.tables.take_owner(), worker, row.epoch + 1
            row.lease_until_s = self.tables.now_s + lease_s
            return claim_of(generation, partition, row)

        claim: Claim | None = self.tables.write("take", body)
        return claim

    def renew(self, claims: Sequence[Claim], lease_s: float) -> set[UUID]:
        def body() -> set[UUID]:
            held = set()
            for claim in claims:
                row = self.tables.of(claim).positions[claim.partition]
                if row.owner == claim.owner:
                    row.lease_until_s = self.tables.now_s + lease_s
                    held.add(claim.owner)
            return held

        found: set[UUID] = self.tables.write("renew", body)
        return found

    def release(self, claim: Claim) -> None:
        def body() -> None:
            row = self.tables.of(claim).positions[claim.partition]
            if (row.owner, row.epoch) == (claim.owner, claim.epoch):
                row.owner = row.worker = None

        self.tables.write("release", body)

    def reload(self, claim: Claim) -> Claim | None:
        def body() -> Claim | None:
            row = self.tables.of(claim).positions[claim.partition]
            if (row.owner, row.epoch) != (claim.owner, claim.epoch):
                return None
            return claim_of(self.tables.of(claim).generation, claim.partition, row)

        found: Claim | None = self.tables.read("reload", body)
        return found

    def load_states(self, claim: Claim, view: str) -> pa.Table:
        t = self.tables.of(claim)
        t.view(view)

        def body() -> pa.Table:
            return t.table_of(view, list(t.speed_rows[view].get((claim.partition, claim.segment), {}).values()))

        found: pa.Table = self.tables.read("load_states", body)
        return found

    def versions(self, claim: Claim) -> Versions:
        found: Versions = self.tables.read(
            "versions", lambda: self.tables.of(claim).versions_at(claim.partition, claim.position)
        )
        return found

    def snapshot_below(self, claim: Claim) -> Cut | None:
        def body() -> Cut | None:
            p = claim.partition
            below = [
                c for c in self.tables.of(claim).cuts if c.status == "published" and c.offsets[p] <= claim.position
            ]
            return max(below, key=lambda c: (c.offsets[p], c.number), default=None)

        found: Cut | None = self.tables.read("snapshot_below", body)
        return found

    # ---- the workers' own snapshots
    def record_snapshot(self, claim: Claim, path: str) -> bool:
        def body() -> bool:
            row = self.tables.of(claim).positions[claim.partition]
            mine = (row.owner, row.epoch) == (claim.owner, claim.epoch)
            if mine:
                self.tables.snapshots[claim.generation, claim.partition, path] = (claim.position, claim.epoch)
            return mine

        return bool(self.tables.write("record_snapshot", body))

    def snapshots(self, claim: Claim) -> list[WorkerSnapshot]:
        def body() -> list[WorkerSnapshot]:
            here, noted = (claim.generation, claim.partition), self.tables.snapshots.items()
            rows = [(*of, path) for (g, p, path), of in noted if (g, p) == here and of[0] <= claim.position]
            return [
                WorkerSnapshot(position, path) for position, _, path in sorted(rows, key=lambda r: r[:2], reverse=True)
            ]

        found: list[WorkerSnapshot] = self.tables.read("snapshots", body)
        return found

    def superseded(self, claim: Claim, path: str) -> list[str]:
        def body() -> list[str]:
            rows, mine = self.tables.snapshots.items(), (claim.generation, claim.epoch)
            return [
                other
                for (g, p, other), (_, epoch) in rows
                if p == claim.partition and other != path and (g, epoch) <= mine
            ]

        found: list[str] = self.tables.read("superseded", body)
        return found

    def forget_snapshot(self, claim: Claim, path: str) -> None:
        def body() -> None:
            for key in [k for k in self.tables.snapshots if k[1:] == (claim.partition, path)]:
                del self.tables.snapshots[key]

        self.tables.write("forget_snapshot", body)

    # ---- the commit
    def commit(self, work: Commit) -> Outcome:
        claim = work.claim
        if work.end <= claim.position:
            raise ValueError(f"a commit of [{claim.position}, {work.end}) moves nothing")
        rows = {view: self.tables.of(claim).rows_of(view, table) for view, table in work.states.items()}
        outcome: Outcome = self.tables.write("commit", lambda: self._commit(work, rows))
        return outcome

    def _commit(self, work: Commit, rows: dict[str, dict[tuple[object, ...], tuple[object, ...]]]) -> Outcome:
        claim = work.claim
        t = self.tables.of(claim)
        row = t.positions[claim.partition]
        if not self._still_as_claimed(row, claim):
            return Fenced()
        cuts = self._cuts_within(claim, work.end)
        if cuts and cuts[0] < work.end:
            return Split(cuts[0])
        if not self._still_in_force(work):
            return Fenced()
        row.position = work.end
        row.lease_until_s = max(row.lease_until_s, self.tables.now_s + work.lease_s)
        row.watermark_ms = max(row.watermark_ms, work.watermark_ms)
        row.witness = work.witness or row.witness
        if cuts:
            self._open_segment(row)
        segment = t.segments[claim.partition].setdefault(claim.segment, Segment(work.end))
        segment.end = work.end
        segment.counts += work.counts
        for view, counts in work.view_counts.items():
            segment.views[view] = segment.views.get(view, ViewCounts()) + counts
        for view, changed in rows.items():
            t.speed_rows[view].setdefault((claim.partition, claim.segment), {}).update(changed)
        return Committed(
            replace(claim, position=row.position, segment=row.segment, witness=work.witness or claim.witness)
        )

    def _still_as_claimed(self, row: Position, claim: Claim) -> bool:
        mine = (claim.owner, claim.epoch, claim.position, claim.segment)
        return (row.owner, row.epoch, row.position, row.segment) == mine and self.tables.of(claim).status != "retired"

    def _still_in_force(self, work: Commit) -> bool:
        now = self.tables.of(work.claim).versions_at(work.claim.partition, work.claim.position)
        return all(now.get(table) == version for table, version in work.versions.items())

    def _cuts_within(self, claim: Claim, end: int) -> list[int]:
        """Chosen cuts in (start, end]."""
        return sorted(c for c in self.tables.of(claim).chosen_cuts(claim.partition) if claim.position < c <= end)

    def _open_segment(self, row: Position) -> None:
        row.segment = row.position
