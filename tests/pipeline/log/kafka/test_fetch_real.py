"""On a real Kafka: arrays from the socket are, block for block and bit for bit, what the client's public API gives."""

from __future__ import annotations

import struct
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pytest
from crc32c import crc32c
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kafka import KafkaProducer

from pipeline.base.errors import LogError
from pipeline.log.kafka import fetch as kafka_fetch
from pipeline.log.kafka.connection import KafkaConnection
from pipeline.log.kafka.log import KafkaLog
from pipeline.log.kafka.record_batches import DamagedLog
from pipeline.log.log import Block
from sandbox.kafka import RealKafka
from speed_layer.consumer import LiveConsumer
from tests.conftest import need_real_kafka
from tests.support.system import wait_for

CODECS = [None, "gzip", "snappy", "lz4", "zstd"]
BIG = 5 * 1024 * 1024


def new_topic(log: KafkaLog, **configs: str) -> str:
    topic = f"f-{uuid.uuid4().hex[:12]}"
    assert log.create_topic(
        topic, 1, {"retention.ms": "-1", **{name.replace("_", "."): value for name, value in configs.items()}}
    )
    return topic


def producer(bootstrap: str, codec: str | None, **config: str) -> KafkaProducer:
    return KafkaProducer(
        bootstrap_servers=bootstrap, compression_type=codec, max_request_size=BIG * 2, linger_ms=20, **config
    )


def fill(log: KafkaLog, topic: str, codec: str | None) -> None:
    """Records of every kind; transactions of two producers, interleaved, committed and aborted."""
    kinds = [(b"k", b"v"), (None, b"no key"), (b"gone", None), (b"", None), (b"", b""), (b"key", b'{"a": 1}' * 40)]
    with closing(producer(log.bootstrap, codec)) as plain:
        one, two = (producer(log.bootstrap, codec, transactional_id=f"{topic}-{n}") for n in (1, 2))
        for number in range(300):
            key, value = kinds[number % len(kinds)]
            headers = [("trace", b"%d" % number), ("schlüssel", b"")][: number % 3] if number % 5 == 0 else []
            plain.send(topic, value, key=key, headers=headers, timestamp_ms=1_600_000_000_000 + number * 7 % 1000)
        plain.send(topic, b"5 MB" * (BIG // 4), key=b"big")
        plain.flush()
        one.init_transactions()
        two.init_transactions()
        for turn, (first, second) in enumerate([(True, False), (False, True), (False, False), (True, True)]):
            one.begin_transaction()
            two.begin_transaction()
            for number in range(20):
                for to in (one, two, plain):
                    to.send(topic, b"%d of %d" % (number, turn), key=b"t")
                if number % 7 == 0:
                    for to in (two, one, plain):
                        to.flush()
            for to, committed in ((two, second), (one, first)):
                to.flush()
                if committed:
                    to.commit_transaction()
                else:
                    to.abort_transaction()
        plain.flush()
        one.close()
        two.close()


def by_the_public_api(log: KafkaLog, topic: str, end: int, start: int, max_records: int) -> list[Block]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kafka_fetch, "FITS", ())
        return list(log.read(topic, 0, start, end, max_records=max_records))


@pytest.fixture
def log(real_kafka: str) -> Iterator[KafkaLog]:
    with closing(KafkaLog(real_kafka)) as opened:
        yield opened


def filled(log: KafkaLog, codec: str | None, **configs: str) -> tuple[str, int]:
    topic = new_topic(log, **configs)
    fill(log, topic, codec)
    ends: list[int] = []

    def settled() -> bool:
        ends.append(log.end_offsets(topic)[0])
        return len(ends) > 1 and ends[-1] == ends[-2] > 301 + 4 * 60

    wait_for(settled, "every transaction is decided")
    return topic, ends[-1]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("stamp", ["CreateTime", "LogAppendTime"])
def test_both_ways_to_read_give_the_same_blocks_bit_for_bit(log: KafkaLog, codec: str | None, stamp: str) -> None:
    topic, end = filled(log, codec, message_timestamp_type=stamp)
    for start, max_records in ((0, 50_000), (0, 7), (17, 64), (301, 1)):
        wanted = by_the_public_api(log, topic, end, start, max_records)
        found = list(log.read(topic, 0, start, end, max_records=max_records))
        assert [(block.start, block.end) for block in found] == [(block.start, block.end) for block in wanted]
        for block, other in zip(found, wanted, strict=True):
            block.batch.validate(full=True)
            assert block.batch.equals(other.batch)
        assert sum(map(len, found)) < end - start, (
            "control and aborted records must have been passed for this test to mean anything"
        )


@pytest.fixture(scope="module")
def written(real_kafka: str) -> Iterator[tuple[str, str, pa.Table]]:
    """(bootstrap, topic of one partition, all its committed records)."""
    with closing(KafkaLog(real_kafka)) as opened:
        topic, end = filled(opened, "lz4")
        yield (
            real_kafka,
            topic,
            pa.Table.from_batches([b.batch for b in by_the_public_api(opened, topic, end, 0, 50_000)]),
        )


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["poll", "poll", "poll", "seek", "pause", "resume", "place"]),
            st.integers(0, 560),
            st.integers(1, 90),
        ),
        min_size=3,
        max_size=25,
    )
)
def test_seek_pause_and_assign_while_records_wait_never_give_stale_ones(
    written: tuple[str, str, pa.Table], steps: list[tuple[str, int, int]]
) -> None:
    bootstrap, topic, table = written
    at = (topic, 0)
    with closing(LiveConsumer(bootstrap)) as live:
        live.assign({at: 0})
        end = table.column("offset")[-1].as_py() + 1
        for what, number, most in steps:
            offset = number % end
            before = live.positions[at]
            if what == "seek":
                live.seek(at, offset)
            elif what == "pause":
                live.pause([at])
            elif what == "resume":
                live.resume([at])
            elif what == "place":
                live.assign({})
                live.assign({at: offset})
            else:
                paused = at in live.paused
                for block in live.poll(150, most).values():
                    assert block.start == before and not paused and len(block) <= most
                    offsets = table.column("offset").to_numpy()
                    first, last = offsets.searchsorted([block.start, block.end])
                    assert pa.Table.from_batches([block.batch]).equals(table.slice(first, last - first))


@pytest.mark.slow
def test_damage_on_a_brokers_disk_is_named_with_topic_partition_and_offset_by_both_readers(crash_folder: Path) -> None:
    """A wrong CRC, an unknown codec under a right one, a length that lies: what lies before them is read, and nothing behind."""
    need_real_kafka()
    with RealKafka(crash_folder) as kafka:
        topics = {}
        with closing(KafkaLog(kafka.bootstrap)) as opened, closing(producer(kafka.bootstrap, None)) as to:
            for kind in ("wrong CRC", "unknown codec", "long length"):
                topics[kind] = new_topic(opened)
                for number in range(3):
                    to.send(topics[kind], b"value %d" % number).get(10)
        for kind, topic in topics.items():
            file = next((crash_folder / "data").glob(f"{topic}-0/*.log"))
            data = bytearray(file.read_bytes())
            second = struct.unpack_from(">i", data, 8)[0] + 12
            behind = second + struct.unpack_from(">i", data, second + 8)[0] + 12
            if kind == "wrong CRC":
                data[behind - 4] ^= 1
            elif kind == "unknown codec":
                struct.pack_into(">h", data, second + 21, 6)
                struct.pack_into(">I", data, second + 17, crc32c(bytes(data[second + 21 : behind])))
            else:
                struct.pack_into(">i", data, second + 8, behind - second - 12 + 9)
            with file.open("r+b") as there:  # under the running broker, which would not start with such lengths
                there.write(data)
        says = {"wrong CRC": "has the CRC-32C", "unknown codec": "codec 6, which is unknown", "long length": ""}
        for kind, topic in topics.items():
            with closing(KafkaLog(kafka.bootstrap, stall_s=5)) as opened:
                blocks = opened.read(topic, 0, 0, 3)
                assert (next(blocks).end, kind) == (1, kind)
                with pytest.raises(LogError) as refused:
                    list(blocks)
            assert topic in str(refused.value) and says[kind] in str(refused.value), kind
            if kind == "long length":  # the broker itself may refuse to read on: its answer is an error then
                continue
            assert isinstance(refused.value, DamagedLog) and f"topic '{topic}', partition 0, offsets [1, 2)" in str(
                refused.value
            )
            with closing(LiveConsumer(kafka.bootstrap)) as live:
                live.assign({(topic, 0): 0})
                with pytest.raises(DamagedLog, match=r"offsets \[1, 2\)"):
                    for _ in range(100):
                        live.poll(200)
                assert live.positions == {(topic, 0): 1}


def test_what_is_read_with_tls_is_what_is_read_without(tmp_path: Path) -> None:
    """Records arrive in TLS' own pieces, also such that the socket has no more and TLS still has some."""
    need_real_kafka()
    key, certificate, both = tmp_path / "key.pem", tmp_path / "certificate.pem", tmp_path / "both.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    made += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(made, check=True, capture_output=True)
    both.write_text(key.read_text() + certificate.read_text())
    assert not kafka_fetch.misfit()
    keys = {"listener.name.tls.ssl.keystore.type": "PEM", "listener.name.tls.ssl.keystore.location": str(both)}
    with RealKafka(tmp_path / "kafka", listeners={"TLS": "SSL"}, settings=keys) as kafka:
        secured = KafkaConnection(kafka.address("TLS"), security_protocol="SSL", ssl_cafile=str(certificate))
        with closing(KafkaLog(kafka.bootstrap)) as plain, closing(KafkaLog(secured)) as tls:
            topic = new_topic(plain, max_message_bytes=str(2 * BIG))
            fill(plain, topic, None)
            (end,) = plain.end_offsets(topic)
            assert tls.end_offsets(topic) == [end]
            wanted = pa.Table.from_batches([block.batch for block in plain.read(topic, 0, 0, end)])
            assert wanted.num_rows > 300 and wanted.nbytes > BIG
            assert pa.Table.from_batches([block.batch for block in tls.read(topic, 0, 0, end)]).equals(wanted)
        with closing(LiveConsumer(secured)) as live:
            live.assign({(topic, 0): 0})
            found: list[Block] = []
            wait_for(
                lambda: found.extend(live.poll(100).values()) or (found and found[-1].end >= end), "all of the log", 30
            )
            assert (
                pa.Table.from_batches([block.batch for block in found]).combine_chunks().equals(wanted.combine_chunks())
            )
