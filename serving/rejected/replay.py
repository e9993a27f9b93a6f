"""Replay: rejected records sent again, once, to the end of their own partition.

    a record is in the log again at most once as a replay, whatever was killed when        every copy names its origin in a header
    sent <=> accepted by the rule as it is now, or `anyway`

How: what will be sent is noted with the log's ends, and committed. Then, under the topic's lock, Kafka fences whoever replayed before
(its open transaction is aborted), the log from the noted ends on is looked through for copies that landed and were not marked, the rest
is sent in transactions of Kafka's, and marked. So a kill at any point leaves either no copy, or one that the next replay finds.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import pyarrow as pa
from sqlalchemy.engine import Connection, Engine

from pipeline.accept.accept import Ingest
from pipeline.base.crash import CrashPoints, NoCrash
from pipeline.base.errors import Refused
from pipeline.definition.marks import RecordTime
from pipeline.definition.source import Source
from pipeline.handover.patience import wait_out
from pipeline.log.log import RAW_SCHEMA, Block
from pipeline.log.producer import Outgoing, Producer
from serving.ops.replays import begin_replays, lock_replays, mark_sent, read_replays
from serving.postgres.connection import transaction
from serving.rejected.listing import Rejection, Wanted, listing
from serving.rejected.originals import ORIGIN_HEADER, Original, Place, originals, replay_headers
from serving.rejected.state import State
from serving.stores.transactions import Transactions

BATCH_RECORDS, BATCH_BYTES = 1_000, 16 * 1024 * 1024  # of one transaction of Kafka's
MOST = 100_000  # records looked at by one replay: they are held in memory with their values
IDLE_S = 120  # a client that hangs between two statements loses the lock; Kafka's fence keeps it from sending


class Resend(NamedTuple):
    """A record to be sent: as it was, or `mended` with another value."""

    original: Original
    reason: str
    mended: bool


@dataclass(frozen=True)
class Plan:
    """The records to send, and those that were wanted and are not sent, each with the reason."""

    send: tuple[Resend, ...]
    held: tuple[tuple[Rejection, str], ...]
    absent: tuple[Place, ...]  # asked for by place, and not rejected


def plan(state: State, wanted: Wanted, value: bytes | None = None, anyway: bool = False) -> Plan:
    """Decide what a replay would send; nothing is changed. `value` stands in for the one record's that is wanted."""
    listed = listing(state, wanted, MOST)
    if listed.total > MOST:
        raise Refused(
            f"{listed.total:,} rejected records of topic {state.source.topic} are wanted, and {MOST:,} at most are replayed at once: narrow"
            " them down by --reason, --since or --partition and --offset"
        )
    rows = listed.records
    absent = sorted(wanted.places - {r.place for r in rows})
    held: list[tuple[Rejection, str]] = []
    open_rows: list[Rejection] = []
    for r in rows:
        if why := _settled(r):
            held.append((r, why))
        else:
            open_rows.append(r)
    found = originals(state, {r.place for r in open_rows})
    there = [r for r in open_rows if r.place in found]
    held += [(r, "it is in the log and in the master dataset no more") for r in open_rows if r.place not in found]
    mended = {p: o if value is None else replace(o, value=value) for p, o in found.items()}
    judged = _judged(state, list(mended.values()))
    send = []
    for r in there:
        original, again = mended[r.place], judged.get(r.place)
        if any(header is None for _, header in original.headers):
            held.append((r, "it has a header without a value, which kafka-python cannot send"))
        elif again is not None and original.origin is not None and value is None:
            held.append((r, f"it is a replay itself, of {original.origin}, and would be rejected again: {again}"))
        elif again is not None and not anyway:
            held.append((r, f"it would be rejected again: {again}"))
        else:
            send.append(Resend(original, r.reason, value is not None))
    return Plan(tuple(send), tuple(held), tuple(absent))


def _settled(r: Rejection) -> str:
    """The reason why a rejection cannot be replayed, whatever the rule is now; '' when it can."""
    if r.view is not None:
        return (
            f"it was accepted, and view {r.view} alone rejected it: sent again it would be a duplicate, or count twice in the"
            " other views; correct the view, and `watershed init --rebuild` folds it from the log"
        )
    if r.replay is not None and r.replay.sent_offset is not None:
        return f"it was replayed already: offset {r.replay.sent_offset} of the same partition"
    return ""


def _judged(state: State, records: Sequence[Original]) -> dict[Place, str]:
    """Reasons for which the source as it is declared now rejects these records; decode and validate look at one record alone."""
    by_partition: dict[int, list[Original]] = defaultdict(list)
    for record in records:
        by_partition[record.partition].append(record)
    found: dict[Place, str] = {}
    for partition, of in by_partition.items():
        of.sort(key=lambda record: record.offset)
        rows = [
            {
                "offset": r.offset,
                "timestamp_ms": r.timestamp_ms,
                "key": r.key,
                "value": r.value,
                "headers": [{"key": name, "value": value} for name, value in r.headers],
            }
            for r in of
        ]
        batch = pa.RecordBatch.from_pylist(rows, schema=RAW_SCHEMA)
        rejected = Ingest(state.source, partition).feed(Block(batch, of[0].offset, of[-1].offset + 1)).rejected
        for row in rejected.select(["offset", "reason"]).to_pylist():
            found[partition, row["offset"]] = row["reason"]
    return found


class Sent(NamedTuple):
    """Outcome of a replay: origin -> offset of the records sent now, and of those that an earlier one had sent unmarked."""

    now: dict[Place, int]
    found: dict[Place, int]


@dataclass(frozen=True)
class Replaying:
    """Parts of a replay. `patience_s` bounds the wait for transactions of other producers that are open."""

    state: State
    engine: Engine
    producer: Producer
    patience_s: float = 60.0
    crash: CrashPoints = NoCrash()  # noqa: RUF009 -- frozen
    say: Callable[[str], None] = lambda why: None

    def run(self, resends: Sequence[Resend]) -> Sent:
        """Send what is not in the log yet. Also without any: what an earlier replay left unmarked is looked for."""
        state, run = self.state, uuid4()
        ends = state.log.end_offsets(state.generation.topic)
        rows = [
            {
                "partition": r.original.partition,
                "offset": r.original.offset,
                "reason": r.reason,
                "mended": r.mended,
                "sought_from": ends[r.original.partition],
                "run": run,
            }
            for r in resends
        ]
        fresh = Transactions(self.engine).patiently(lambda c: self._begin(c, rows, run), again=True)
        self.crash.reach("replay.begun")
        with transaction(self.engine) as connection:
            connection.exec_driver_sql(f"SET LOCAL idle_in_transaction_session_timeout = {IDLE_S * 1000}")
            self._lock(connection)
            self.producer.begin()
            found = self._find_unmarked(connection, fresh, run)
            now = self._send(connection, resends, run)
            self.crash.reach("replay.marked")
        return Sent(now, found)

    def _lock(self, connection: Connection) -> None:
        if not lock_replays(connection, self.state.generation.topic):
            raise Refused(f"another replay of topic {self.state.generation.topic} is at work: wait until it is done")

    def _begin(self, connection: Connection, rows: Sequence[dict[str, Any]], run: UUID) -> set[Place]:
        """Note what will be sent; the places that nobody had noted before."""
        self._lock(connection)
        before = {(r.partition, r.offset) for r in read_replays(connection, self.state.generation) if r.run != run}
        begin_replays(connection, self.state.generation, rows)
        return {(row["partition"], row["offset"]) for row in rows} - before

    def _find_unmarked(self, connection: Connection, fresh: set[Place], run: UUID) -> dict[Place, int]:
        """Copies in the log of records that another replay may have sent and has not marked; they are marked.

        A row that was fresh and is still this run's nobody else can have sent: whoever sends notes the row as his before.
        """
        state, found = self.state, dict[Place, int]()
        begun = [
            r
            for r in read_replays(connection, state.generation)
            if r.sent_offset is None and not (r.run == run and (r.partition, r.offset) in fresh)
        ]
        if not begun:
            return found
        self._wait_until_decided({r.partition for r in begun})
        for partition in sorted({r.partition for r in begun}):
            here = {f"{state.generation.topic}/{partition}/{r.offset}": r for r in begun if r.partition == partition}
            for offset, origin in replay_headers(state, partition, min(r.sought_from for r in here.values())):
                if (r := here.get(origin)) is not None and offset >= r.sought_from:
                    mark_sent(connection, state.generation, partition, r.offset, offset)
                    found.setdefault((partition, r.offset), offset)
        return found

    def _wait_until_decided(self, partitions: set[int]) -> None:
        """Until every record that is in the log now can be read: an open transaction of any producer hides what lies above it."""
        topic, ends = self.state.generation.topic, self.producer.ends()

        def check() -> None:
            stable = self.state.log.end_offsets(topic)
            behind = [p for p in sorted(partitions) if stable[p] < ends[p]]
            if behind:
                raise Undecided(
                    f"topic {topic}, partition {behind[0]}: a transaction of another producer is open at offset {stable[behind[0]]},"
                    " and what lies above it cannot be read yet: run this again when it is committed or aborted"
                )

        wait_out(check, (Undecided,), patience_s=self.patience_s, say=self.say)

    def _send(self, connection: Connection, resends: Sequence[Resend], run: UUID) -> dict[Place, int]:
        """Send those whose row is not marked and still this run's; another one has taken the rest, and sends it."""
        state, now = self.state, dict[Place, int]()
        mine = {
            (r.partition, r.offset)
            for r in read_replays(connection, state.generation)
            if r.sent_offset is None and r.run == run
        }
        left = [r for r in resends if (r.original.partition, r.original.offset) in mine]
        for batch in _batches(left):
            offsets = self.producer.append([_outgoing(state.source, r.original) for r in batch])
            self.crash.reach("replay.committed")
            for r, offset in zip(batch, offsets, strict=True):
                mark_sent(connection, state.generation, r.original.partition, r.original.offset, offset)
                now[r.original.partition, r.original.offset] = offset
        return now


class Undecided(Refused):
    """Records at the log's end cannot be read yet."""


def _batches(resends: Sequence[Resend]) -> list[list[Resend]]:
    found: list[list[Resend]] = []
    size = 0
    for r in resends:
        own = len(r.original.value or b"") + len(r.original.key or b"")
        if not found or len(found[-1]) >= BATCH_RECORDS or size + own > BATCH_BYTES:
            found.append([])
            size = 0
        found[-1].append(r)
        size += own
    return found


def _outgoing(source: Source, original: Original) -> Outgoing:
    """The record as it was, with its place in one more header.

    It is stamped anew, since a quiet topic's retention might take it with its old timestamp; not where a column is RecordTime().
    """
    origin = f"{source.topic}/{original.partition}/{original.offset}".encode()
    headers = tuple((name, value) for name, value in original.headers if value is not None)
    is_time = any(column.mark(RecordTime) for column in source.columns)
    stamp = original.timestamp_ms if is_time and original.timestamp_ms >= 0 else None
    return Outgoing(original.partition, original.key, original.value, (*headers, (ORIGIN_HEADER, origin)), stamp)


__all__ = ["Plan", "Replaying", "Resend", "Sent", "plan"]
