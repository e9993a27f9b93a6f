"""Appending to the log, as whoever sends records again sees it: some at once, all or none of them, by one writer of a name.

append(records) returns offsets  =>  all of them are committed there, in their order within a partition
begin() returned  =>  whatever earlier writers of the name had not committed never will be
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pipeline.base.errors import LogError


@dataclass(frozen=True)
class Outgoing:
    """A record to be appended; with `timestamp_ms` None it is stamped when it is sent. A header without a value cannot be sent."""

    partition: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp_ms: int | None = None


class Fenced(LogError):
    """Another writer of the same name has begun: nothing more is appended by this one."""


class Producer(Protocol):
    """A writer to one topic. Every method may raise LogError; after an error of `append` its outcome is unknown."""

    def begin(self) -> None:
        """Fence earlier writers of the name and abort what they left open; once, before `append`."""

    def ends(self) -> list[int]:
        """Per partition, the offset above all that was ever appended, decided or not: the high watermark."""

    def append(self, records: Sequence[Outgoing]) -> list[int]:
        """The offsets of the records, which are committed together; Fenced when another writer has begun."""

    def close(self) -> None:
        """Let go of connections; what was not committed is aborted."""


__all__ = ["Fenced", "Outgoing", "Producer"]
