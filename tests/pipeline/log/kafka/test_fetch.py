"""The columns taken from record batches are the records that kafka-python makes of them, at every cut, or a LogError.

The reference is kafka-python's own `Fetcher.PartitionRecords`, over bytes from its own builders and from a real broker.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from crc32c import crc32c
from hypothesis import event, given, settings
from hypothesis import strategies as st
from kafka import IsolationLevel, TopicPartition
from kafka.consumer.fetcher import Fetcher
from kafka.protocol.consumer import FetchRequest, FetchResponse
from kafka.protocol.parser import KafkaProtocol
from kafka.record import MemoryRecords
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from kafka.record.legacy_records import LegacyRecordBatchBuilder

from pipeline.base.errors import LogError
from pipeline.log.kafka.fetch import Budget, ColumnarRecords, misfit
from pipeline.log.kafka.record_batches import CODECS, HEADER, SMALLEST
from pipeline.log.kafka.transport import PIECE_BYTES, Frames, leave_records_in_place
from pipeline.log.log import joined, raw_batch

AT = TopicPartition("events", 3)
ATTRIBUTES_AT, COUNT_AT = 21, 57
LOG_APPEND_TIME, TRANSACTIONAL, CONTROL = 0x08, 0x10, 0x20
CODEC_NUMBERS = [0, *CODECS]
LOTS = 1 << 40


@dataclass(frozen=True)
class Row:
    gap: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


def built(
    rows: Sequence[Row], base: int = 0, codec: int = 0, epoch: int = 0, flags: int = 0, producer: int = -1
) -> bytes:
    """One record batch as kafka-python's builder writes it, then with what only a broker sets: offsets, epoch, flags."""
    builder = DefaultRecordBatchBuilder(
        2, codec, bool(flags & TRANSACTIONAL), producer, 0 if producer >= 0 else -1, 0, 1 << 40
    )
    delta = -1
    for row in rows:
        delta += row.gap
        builder.append(delta, row.timestamp, row.key, row.value, row.headers)
    data = bytearray(builder.build())
    struct.pack_into(">qii", data, 0, base, len(data) - 12, epoch)
    (attributes,) = struct.unpack_from(">h", data, ATTRIBUTES_AT)
    struct.pack_into(">h", data, ATTRIBUTES_AT, attributes | flags)
    return sealed(data)


def sealed(data: bytearray) -> bytes:
    """With the CRC of what the batch says now."""
    struct.pack_into(">I", data, 17, crc32c(bytes(data[ATTRIBUTES_AT:])))
    return bytes(data)


def marker(base: int, producer: int, commit: bool) -> bytes:
    """The control batch that ends a producer's transaction."""
    row = Row(1, 5, struct.pack(">hh", 0, int(commit)), struct.pack(">hi", 0, 0), [])
    return built([row], base, flags=TRANSACTIONAL | CONTROL, producer=producer)


def old_format(base: int, magic: int, codec: int, value: bytes) -> bytes:
    builder = LegacyRecordBatchBuilder(magic, codec, 1 << 20)
    # In a compressed set of format 1 offsets are relative, and the set has its last record's
    first = 0 if codec and magic else base
    builder.append(first, 1234, b"old", value)
    builder.append(first + 1, 1235, None, None)
    data = bytearray(builder.build())
    if codec:
        struct.pack_into(">q", data, 0, base + 1)
    return bytes(data)


def taken(
    kind: Any, buffer: bytes, takes: Sequence[int], fetch_offset: int = 0, aborted: Any = ()
) -> tuple[list[Any], Exception | None]:
    """What each take gives: (rows as Arrow, next offset, leader epoch); and the error that ended it."""
    part = kind(
        fetch_offset,
        AT,
        MemoryRecords(buffer),
        isolation_level=IsolationLevel.READ_COMMITTED,
        aborted_transactions=list(aborted),
    )
    steps: list[Any] = []
    turn = 0
    while part:
        try:
            found = part.take(takes[turn % len(takes)])
        except Exception as error:
            return steps, error
        if isinstance(part, ColumnarRecords):
            batch = joined(list(found))
        else:  # format 0 has no timestamps: None there, -1 with us
            batch = raw_batch(
                [record._replace(timestamp=-1 if record.timestamp is None else record.timestamp) for record in found]
            )
        # When all of a set of an old format lies below the position, kafka-python's would move back.
        steps.append((batch, max(part.next_fetch_offset, fetch_offset), part.leader_epoch))
        turn += 1
    return steps, None


def reference(buffer: bytes, takes: Sequence[int], *more: Any) -> tuple[list[Any], Exception | None]:
    return taken(Fetcher.PartitionRecords, buffer, takes, *more)


def columnar(buffer: bytes, takes: Sequence[int], *more: Any) -> tuple[list[Any], Exception | None]:
    budget = Budget()
    budget.renew(LOTS)
    return taken(partial(ColumnarRecords, budget), buffer, takes, *more)


def assert_equal(found: list[Any], wanted: list[Any]) -> None:
    assert [step[1:] for step in found] == [step[1:] for step in wanted]
    for (batch, *_), (other, *_) in zip(found, wanted, strict=True):
        batch.validate(full=True)
        assert batch.equals(other)


PARTS = st.none() | st.binary(max_size=20) | st.integers(100, 20_000).map(lambda n: b"x" * n)
NAMES = st.text(max_size=4) | st.just("schlüssel")
TIMES = st.integers(-1, 2**41) | st.just(0)
HEADERS = st.just([]) | st.lists(st.tuples(NAMES, st.none() | st.binary(max_size=9)), max_size=3)
ROWS = st.lists(
    st.builds(Row, st.integers(1, 3), TIMES, PARTS, PARTS, HEADERS),
    min_size=1,
    max_size=12,
)


@st.composite
def logs(draw: st.DrawFn) -> tuple[bytes, list[Any], int]:
    """(a fetch response's record batches, the aborted transactions that it names, the offset behind them)."""
    out: list[bytes] = []
    aborted: list[Any] = []
    open_since: dict[int, int] = {}
    offset, epoch = draw(st.integers(0, 2**40)), draw(st.integers(0, 5))
    for _ in range(draw(st.integers(1, 7))):
        offset += draw(st.integers(0, 3))
        epoch += draw(st.sampled_from([0, 0, 0, 1]))
        kind = draw(st.sampled_from(["plain", "plain", "idempotent", "begun", "ended", "old"]))
        if kind == "old":
            out.append(
                old_format(
                    offset, draw(st.integers(0, 1)), draw(st.sampled_from([0, 1, 2])), draw(st.binary(max_size=9))
                )
            )
            offset += 2
            continue
        producer = draw(st.integers(1, 3))
        if kind == "ended" and producer in open_since:
            commit = draw(st.booleans())
            if not commit:
                aborted.append(SimpleNamespace(producer_id=producer, first_offset=open_since[producer]))
            del open_since[producer]
            out.append(marker(offset, producer, commit))
            offset += 1
            continue
        flags = draw(st.sampled_from([0, LOG_APPEND_TIME]))
        if kind in ("begun", "ended"):
            flags |= TRANSACTIONAL
            open_since.setdefault(producer, offset)
        rows = draw(ROWS)
        codec = draw(st.sampled_from(CODEC_NUMBERS))
        out.append(built(rows, offset, codec, epoch, flags, -1 if kind == "plain" else producer))
        offset += sum(row.gap for row in rows)
    return b"".join(out), aborted, offset


@settings(max_examples=400, deadline=None)
@given(
    log=logs(),
    takes=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    skip=st.integers(0, 20),
    cut=st.integers(0, 300),
)
def test_takes_of_any_size_are_those_of_kafka_python(log: Any, takes: list[int], skip: int, cut: int) -> None:
    """Any codecs, keys, values, headers, timestamps, gaps, transactions, start in a batch, and a last batch cut off."""
    buffer, aborted, _ = log
    buffer = buffer[: len(buffer) - cut] if cut < len(buffer) - 8 else buffer
    start = struct.unpack_from(">q", buffer)[0] + skip
    wanted, error = reference(buffer, takes, start, aborted)
    assert error is None
    found, error = columnar(buffer, takes, start, aborted)
    assert error is None
    assert_equal(found, wanted)


def values(steps: list[Any]) -> list[dict[str, Any]]:
    return [row for batch, *_ in steps for row in batch.to_pylist()]


def assert_same_or_refused(buffer: bytes, takes: list[int], start: int, aborted: Any) -> str:
    """Never other records than kafka-python's: all of them, or some of the first and then a LogError that says where."""
    found, error = columnar(buffer, takes, start, aborted)
    wanted, refusal = reference(buffer, takes, start, aborted)
    rows, others = values(found), values(wanted)
    if error is None:
        assert refusal is None
        assert_equal(found, wanted)
        return "the same"
    assert isinstance(error, LogError), repr(error)
    assert "topic 'events', partition 3, " in str(error) and "offset" in str(error)
    assert rows == others[: len(rows)]
    assert {step[1] for step in found} <= {step[1] for step in [*wanted, *reference(buffer, [1], start, aborted)[0]]}
    return "refused by both" if refusal else "refused by ours alone"


@settings(max_examples=600, deadline=None)
@given(log=logs(), data=st.data())
def test_bytes_damaged_anywhere_give_the_same_or_a_log_error(log: Any, data: st.DataObject) -> None:
    buffer, aborted, _ = bytearray(log[0]), log[1], log[2]
    start = struct.unpack_from(">q", buffer)[0]
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(buffer) - 1))
        if data.draw(st.booleans()):
            buffer[at] ^= 1 << data.draw(st.integers(0, 7))
        else:
            del buffer[at : at + data.draw(st.integers(1, 9))]
        if not buffer:
            return
    event(assert_same_or_refused(bytes(buffer), [7], start, aborted))


@settings(max_examples=1500, deadline=None)
@given(rows=ROWS, codec=st.sampled_from(CODEC_NUMBERS), data=st.data())
def test_lies_under_a_right_crc_give_the_same_or_a_log_error(rows: list[Row], codec: int, data: st.DataObject) -> None:
    """Varints that run over, negative lengths, counts that lie, codecs that nobody has: the CRC does not save the decoder here."""
    sound = built(rows, 10, 0)
    batch = bytearray(built(rows, 10, codec))
    where = data.draw(st.sampled_from(["records", "records", "count", "anything", "noise"]))
    if where == "noise":
        batch = batch[: HEADER.size] + bytearray(data.draw(st.binary(max_size=60)))
        struct.pack_into(">i", batch, 8, len(batch) - 12)
    elif where == "count":
        struct.pack_into(">i", batch, COUNT_AT, data.draw(st.integers(-3, 40) | st.just(2**31 - 1)))
    else:
        if where == "records":
            batch = bytearray(sound)
        first = HEADER.size if where == "records" else ATTRIBUTES_AT
        for _ in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(first, len(batch) - 1))
            batch[at] = data.draw(st.sampled_from([0, 1, 2, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))
    lying = sealed(batch)
    event(assert_same_or_refused(lying + built(rows, 1000, codec), [5, 40], 0, []))


@pytest.mark.parametrize("magic", [3, 17, -1])
def test_an_unknown_message_format_is_refused_with_its_place(magic: int) -> None:
    batch = bytearray(built([Row(1, 1, b"k", b"v", [])], 70))
    struct.pack_into(">b", batch, 16, magic)
    _, error = columnar(built([Row(1, 1, b"k", b"v", [])], 69) + sealed(batch), [9])
    assert isinstance(error, LogError)
    assert f"topic 'events', partition 3, offset 70: a record batch has the message format {magic}" in str(error)


def test_a_wrong_crc_an_unknown_codec_and_a_bomb_are_refused_with_their_place_behind_what_is_sound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sound = built([Row(1, 1, b"k", b"v", [])] * 4, 60)
    wrong = bytearray(built([Row(1, 1, b"k", b"v" * 9999, [])] * 4, 64, codec=3))
    bomb = bytes(wrong)
    unknown = bytearray(wrong)
    struct.pack_into(">h", unknown, ATTRIBUTES_AT, 6)
    wrong[-20] ^= 4
    monkeypatch.setattr("pipeline.log.kafka.record_batches.LARGEST_PAYLOAD", 20_000)
    for bad, says in (
        (bytes(wrong), "has the CRC-32C"),
        (sealed(unknown), "codec 6, which is unknown"),
        (bomb, "more than 20000 bytes"),
    ):
        found, error = columnar(sound + bad + sound, [100], 60)
        assert [row["offset"] for row in values(found)] == [60, 61, 62, 63], "what lies before it is returned first"
        assert found[-1][1] == 64
        assert isinstance(error, LogError) and says in str(error)
        assert "topic 'events', partition 3, offsets [64, 68)" in str(error)


def test_an_error_stays_so_that_nothing_behind_it_can_be_returned() -> None:
    bad = bytearray(built([Row(1, 1, b"k", b"v", [])], 1))
    bad[-3] ^= 1
    buffer = built([Row(1, 1, b"k", b"v", [])]) + bytes(bad) + built([Row(1, 1, None, None, [])], 2)
    part = ColumnarRecords(Budget(), 0, AT, MemoryRecords(buffer))
    assert len(part.take(10)) == 1
    for _ in range(3):
        with pytest.raises(LogError, match=r"offsets \[1, 2\)"):
            part.take(10)
        assert part.next_fetch_offset == 1


@settings(max_examples=100, deadline=None)
@given(log=logs(), limit=st.integers(0, 30_000))
def test_a_take_stays_within_its_bytes_unless_one_record_alone_is_larger(log: Any, limit: int) -> None:
    buffer, aborted, _ = log
    budget = Budget()
    part = ColumnarRecords(
        budget,
        0,
        AT,
        MemoryRecords(buffer),
        isolation_level=IsolationLevel.READ_COMMITTED,
        aborted_transactions=aborted,
    )
    rows: list[Any] = []
    while part:
        budget.renew(limit)
        found = part.take(1000)
        batch = joined(list(found))
        sizes = [
            len(r["key"] or b"")
            + len(r["value"] or b"")
            + sum(len(h["key"].encode()) + len(h["value"] or b"") for h in r["headers"])
            for r in batch.to_pylist()
        ]
        assert sum(sizes) <= limit or len(sizes) == 1
        assert len(found) == 1000 or not part, "the fetcher must not ask again in this poll, nor spin"
        rows += batch.to_pylist()
    assert rows == values(reference(buffer, [1000], 0, aborted)[0])


def test_no_batch_is_smaller_than_the_client_takes_it_to_be() -> None:
    assert SMALLEST == MemoryRecords.MIN_SLICE and DefaultRecordBatch.HEADER_STRUCT.format == HEADER.format


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 5000), min_size=1, max_size=4),
    cuts=st.lists(st.integers(1, 3000), min_size=1, max_size=6),
)
def test_frames_give_the_responses_of_the_clients_own_parser_however_bytes_arrive(
    sizes: list[int], cuts: list[int]
) -> None:
    ours, theirs = KafkaProtocol(client_id="a"), KafkaProtocol(client_id="a")
    wire = b""
    for number, size in enumerate(sizes, 1):
        for parser in (ours, theirs):
            parser.send_request(
                FetchRequest(max_wait_ms=1, min_bytes=1, topics=[], min_version=4, max_version=4, version=4)
            )
        part = FetchResponse.FetchableTopicResponse.PartitionData(partition_index=0, error_code=0, records=b"r" * size)
        topic = FetchResponse.FetchableTopicResponse(topic="t", partitions=[part])
        answer = FetchResponse(version=4, throttle_time_ms=0, responses=[topic])
        answer.with_header(correlation_id=number)
        wire += answer.encode(framed=True, header=True)
    wanted = theirs.receive_bytes(wire)
    frames, found, at, turn = Frames(ours), [], 0, 0
    while at < len(wire):
        room = min(cuts[turn % len(cuts)], len(wire) - at)
        if frames.frame is not None and turn % 2:  # straight into the frame, as from a socket
            room = min(room, len(frames.frame.room))
            frames.frame.room[:room] = wire[at : at + room]
            frames.frame.filled(room)
            found += ours.receive_bytes(b"") if not len(frames.frame.room) else []
        else:
            found += ours.receive_bytes(wire[at : at + room])
        at, turn = at + room, turn + 1
    assert [n for n, _ in found] == [n for n, _ in wanted] == list(range(1, len(sizes) + 1))
    assert [r.responses[0].partitions[0].records for _, r in found] == [
        r.responses[0].partitions[0].records for _, r in wanted
    ]


@pytest.mark.parametrize("version", range(4, FetchResponse.max_version + 1))
def test_many_records_of_a_response_are_left_where_they_arrived(version: int) -> None:
    leave_records_in_place()
    for size in (PIECE_BYTES - 1, PIECE_BYTES, 3 * PIECE_BYTES):
        part = FetchResponse.FetchableTopicResponse.PartitionData(partition_index=0, error_code=0, records=b"r" * size)
        kept = FetchResponse.FetchableTopicResponse(topic="t", partitions=[part])
        wire = bytearray(FetchResponse(version=version, throttle_time_ms=0, responses=[kept]).encode(version=version))
        found = FetchResponse.decode(memoryview(wire), version=version).responses[0].partitions[0].records
        assert found == b"r" * size
        wire[:] = bytes(len(wire))  # what is a view shows it, and a copy does not
        assert found == (bytes(size) if size >= PIECE_BYTES else b"r" * size)


def test_the_adapters_fit_the_installed_client() -> None:
    assert misfit() == "", "fit them to this version, or say in CHANGELOG that reading is slow with it"
