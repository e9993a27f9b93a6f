"""Counts of records by outcome: the figures that every layer adds up to the same sums.

records = accepted + duplicates + rejected + tombstones        accepted = folded + filtered + rejected, in each view
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Counts:
    """The records of a range of one partition: records = accepted + duplicates + rejected + tombstones."""

    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    tombstones: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.accepted + other.accepted,
            self.duplicates + other.duplicates,
            self.rejected + other.rejected,
            self.tombstones + other.tombstones,
        )

    @property
    def records(self) -> int:
        return self.accepted + self.duplicates + self.rejected + self.tombstones


@dataclass(frozen=True)
class ViewCounts:
    """The accepted records in one view: accepted = folded + filtered + rejected."""

    folded: int = 0
    filtered: int = 0
    rejected: int = 0

    def __add__(self, other: "ViewCounts") -> "ViewCounts":
        return ViewCounts(self.folded + other.folded, self.filtered + other.filtered, self.rejected + other.rejected)
