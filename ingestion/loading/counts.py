"""The accounting of one load.

read = added + changed + unchanged + duplicates + deleted + rejected        rows of the version = rows before + added − gone
"""

from dataclasses import asdict, dataclass


@dataclass
class LoadCounts:
    """Rows by what became of them. `duplicates` say what another row of the load says, or are older than one; `gone` were in the version
    before, and are in no row of the origin, or were deleted by one: they were not read.
    """

    read: int = 0
    added: int = 0
    changed: int = 0
    unchanged: int = 0
    duplicates: int = 0
    deleted: int = 0
    rejected: int = 0
    gone: int = 0
    rows: int = 0

    def check(self) -> None:
        """AssertionError where a row that was read is counted nowhere, or twice."""
        told = self.added + self.changed + self.unchanged + self.duplicates + self.deleted + self.rejected
        assert self.read == told, f"{self.read} rows were read, and {told} counted: {asdict(self)}"


@dataclass(frozen=True)
class RejectedRow:
    """A row that is in no version: its part, its place in that, the reason, and what there is of it (ingestion.rejected.rows.SCHEMA)."""

    part: str
    number: int
    reason: str
    raw: bytes
    event: bool = False
    version: str = ""
    unit: str = "row"
