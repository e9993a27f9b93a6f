"""One topic of events, and what makes a record of it valid and unique.

equal(a, b)  <=>  both accept, reject and deduplicate every log alike
"""

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pipeline.base.declared import Compared
from pipeline.base.errors import DefinitionError
from pipeline.definition.record import Column, column_named, columns


@dataclass(frozen=True, eq=False)
class Source(Compared):
    """One topic of events and what makes a record of it valid; one Source per topic.

    `key`, `event_time` (datetime) and `identity` (str or int) name columns that are never null. Two valid records of one partition
    with the same identity, at most `identity_horizon` of log time apart, are one event: the later is a duplicate. The usual
    mistake: an identity that is sent under two keys, and so lands in two partitions, is never seen as a duplicate.

    `identity=None` says that nothing is a duplicate: every valid record is accepted, and what a producer sends twice counts twice.
    """

    topic: str
    record: type
    key: str
    event_time: str
    identity: str | None
    identity_horizon: timedelta = timedelta(days=7)

    def __post_init__(self) -> None:
        if (
            not isinstance(self.topic, str)
            or not re.fullmatch(r"[a-zA-Z0-9._-]{1,200}", self.topic)
            or set(self.topic) == {"."}
        ):
            raise DefinitionError(
                f"Source: topic {self.topic!r} is no topic name; allowed are letters, digits, '.', '_' and '-'"
            )
        for role, kinds in (("key", None), ("event_time", ("datetime",)), ("identity", ("str", "int"))):
            if role == "identity" and self.identity is None:
                continue
            what = f"Source({self.topic}): {role}"
            column = column_named(self.record, getattr(self, role), what)
            if column.nullable:
                raise DefinitionError(
                    f"{what} names column {column.name!r}, which may be null; declare it without `| None`"
                )
            if kinds and column.type.kind not in kinds:
                raise DefinitionError(
                    f"{what} names column {column.name!r} of type {column.type}; allowed: {', '.join(kinds)}"
                )
        horizon = self.identity_horizon
        if not isinstance(horizon, timedelta) or not timedelta(0) <= horizon <= timedelta(days=36500):
            raise DefinitionError(
                f"Source({self.topic}): identity_horizon={horizon!r}; allowed is a timedelta from 0 to 36500 days"
            )

    @property
    def columns(self) -> tuple[Column, ...]:
        return columns(self.record)

    @property
    def horizon_ms(self) -> int:
        """The horizon in whole milliseconds, the unit of Kafka's record timestamps."""
        return self.identity_horizon // timedelta(milliseconds=1)

    def _same(self) -> tuple[Any, ...]:  # the record's columns, not its class: cloudpickle may make that anew
        return (self.topic, self.columns, self.key, self.event_time, self.identity, self.horizon_ms)
