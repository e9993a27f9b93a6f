"""The records of a Kafka topic as rows: what is committed when a reading begins, a part for each partition.

rows + broken rows of a part = committed records with offsets in [start, end)        a row's number is its offset
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ingestion.objects import Lost, parse_json, to_rows
from ingestion.origin import Part, Reading, Rows
from ingestion.origins.declaring import Declaration, is_text
from ingestion.retrying import Retrier
from pipeline.base.errors import LogError, OriginAway, OriginError
from pipeline.log.log import Block, Log, Unreachable

BLOCK_ROWS = 20_000
BLOCK_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True)
class Topic(Declaration):
    """The topic `name`, whose values are JSON objects. A record without a value (a tombstone) is a broken row, as is one that is no JSON.

    The usual mistake: to load a topic of events as a table; events are what a Source is for.
    """

    name: str

    def __post_init__(self) -> None:
        is_text(self.name, "name of Topic", "prices")

    def parts(self, reading: Reading) -> Sequence[Part]:
        """A part for each partition, from what retention has left to the last stable offset now. See Origin.parts."""
        return Retrier(reading.report, count=reading.retried)(lambda: self._parts(reading))

    def read(self, part: Part, reading: Reading) -> Iterator[Rows]:
        """The part's records; OriginError where retention has taken some since the parts were made. See Origin.read."""
        partition, start, end = (int(part.detail[name]) for name in ("partition", "start", "end"))
        left = reading.limit
        with self._log(reading) as log, closing(_blocks(log, self.name, partition, start, end)) as blocks:
            for block in blocks:
                rows = _rows(block, left)
                if len(rows.numbers) or rows.broken:
                    yield rows
                left = None if left is None else left - len(rows.numbers) - len(rows.broken)
                if left is not None and left <= 0:
                    return

    def _parts(self, reading: Reading) -> list[Part]:
        with self._log(reading) as log:
            topic_id = log.topic_id(self.name)
            ranges = zip(log.start_offsets(self.name), log.end_offsets(self.name), strict=True)
            return [
                Part(
                    f"{self.name}, partition {partition}",
                    f"{topic_id}:{start}-{end}",
                    {"partition": partition, "start": start, "end": end},
                )
                for partition, (start, end) in enumerate(ranges)
            ]

    @contextmanager
    def _log(self, reading: Reading) -> Iterator[Log]:
        """The log; what it cannot do is an OriginError, OriginAway where no broker answers."""
        try:
            with closing(_opened(reading)) as log:
                yield log
        except LogError as error:
            kind = OriginAway if isinstance(error, Unreachable) else OriginError
            raise kind(error.text, repair=error.repair) from error


def _opened(reading: Reading) -> Log:
    if reading.log is not None:
        return reading.log()
    from pipeline.log.kafka.log import KafkaLog
    from pipeline.settings import Settings

    return KafkaLog(Settings.load().kafka_connection())


def _blocks(log: Log, topic: str, partition: int, start: int, end: int) -> Any:
    return log.read(topic, partition, start, end, max_records=BLOCK_ROWS, max_bytes=BLOCK_BYTES)


def _rows(block: Block, most: int | None) -> Rows:
    """The block's records as rows, whose places are their offsets; at most `most` of them."""
    offsets = block.offsets[:most].astype(np.int64)
    made = to_rows([_parsed(value) for value in block.batch.column("value").to_pylist()[:most]], first=0)
    broken = tuple(replace(one, number=int(offsets[one.number])) for one in made.broken)
    return Rows(made.batch, offsets[made.numbers], broken, "offset")


def _parsed(value: bytes | None) -> Any:
    if value is None:
        return Lost("has no value: it is a tombstone")
    try:
        return parse_json(value)
    except (ValueError, RecursionError) as error:
        return Lost(f"is no JSON: {error}", value.decode("utf-8", "replace"))
