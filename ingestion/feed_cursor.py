"""The cursor of a feed, which says how far it has come: parts that are done, the begun one, the greatest value.

    taken = sent + rejected        Cursor.from_bytes(cursor.to_bytes()) = cursor

It is written in the transaction of the records that it counts, so that the one is committed if and only if the other is.
"""

import json
import zlib
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from hashlib import blake2b

from ingestion.origin import Part
from pipeline.base.errors import Refused

FORMAT = 1
PLAIN_BYTES = 64 * 1024  # a cursor that is longer is compressed
MOST_TIES = 20_000  # rows of one cursor value, and rejected rows, that are remembered each


@dataclass
class Cursor:
    """State of one feed; changed by Feeding alone, and written as JSON.

    `done`: name -> version of each part that was taken whole. `part`, `version`, `number`: the part that was begun, and the place of the
    last of its rows that was taken; "" between parts. `since`: of a feed with a cursor column, the greatest value sent, as text; `ties`
    the marks of the rows sent that have it; `refused` those of rejected rows of the last reading. `rejects`: the newest file of
    rejected rows, each of which names the one before.
    """

    topic_id: str = ""
    done: dict[str, str] = field(default_factory=dict)
    part: str = ""
    version: str = ""
    number: int = 0
    since: str | None = None
    ties: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    sent: int = 0
    rejected: int = 0
    rejects: str = ""

    def to_bytes(self) -> bytes:
        """The cursor as it stands in Kafka."""
        plain = json.dumps({"format": FORMAT, **asdict(self)}, separators=(",", ":")).encode()
        return plain if len(plain) <= PLAIN_BYTES else zlib.compress(plain)

    @classmethod
    def from_bytes(cls, value: bytes, feed: str) -> "Cursor":
        """The cursor that `to_bytes` wrote; Refused where a newer Watershed did."""
        found = json.loads(value if value[:1] == b"{" else zlib.decompress(value))
        if found.pop("format") != FORMAT:
            raise Refused(f"feed {feed} was last run by a newer Watershed: run it with that")
        return cls(**found)

    def finish(self) -> None:
        """The part that was begun is done."""
        self.done[self.part] = self.version
        self.part, self.version, self.number = "", "", 0

    def left(self, parts: Sequence[Part], feed: str) -> list[Part]:
        """The parts that are not done, the begun one first; Refused for one that changed since, or cannot tell whether it did."""
        left = [part for part in parts if part.name not in self.done]
        for part in parts:
            before = self.version if part.name == self.part else self.done.get(part.name, part.version)
            if not part.version:
                raise Refused(
                    f"feed {feed}: {part.name} does not say when it changes, so that nobody could tell what of it was sent: give the"
                    " Feed cursor=, the column by which new rows are known"
                )
            if before != part.version:
                raise Refused(
                    f"feed {feed}: {part.name} changed since it was sent, from version {before} to {part.version}, and no more of it is"
                    " sent. Put it back as it was, and new rows into a file of another name"
                )
        if self.part and all(part.name != self.part for part in parts):
            raise Refused(f"feed {feed}: {self.part} is gone, of which {self.number:,} rows were taken: put it back")
        return sorted(left, key=lambda part: part.name != self.part)


def mark(row: bytes) -> str:
    """A row, to be told again: 96 bits of its hash."""
    return b64encode(blake2b(row, digest_size=12).digest()).decode()


__all__ = ["MOST_TIES", "Cursor", "mark"]
