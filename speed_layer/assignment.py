"""The assignment of partitions to workers: shared evenly, and nothing moves that need not.

Σ share(worker) = partitions,  max share - min share <= 1
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.handover import LeaseRow


def share(partitions: int, workers: Sequence[str], me: str) -> int:
    """The number of partitions that `me` may hold; `workers` are all living ones, sorted. 0 for one that is not among them."""
    if me not in workers:
        return 0
    rank = list(workers).index(me)
    return partitions // len(workers) + (rank < partitions % len(workers))


@dataclass(frozen=True)
class Moves:
    """Partitions to try to take now, and partitions to let go of; never both."""

    take: tuple[int, ...]
    release: tuple[int, ...]


def moves(rows: Sequence[LeaseRow], mine: Sequence[int], workers: Sequence[str], me: str) -> Moves:
    """Take free partitions up to the share, furthest behind first; release those above it, the last taken first."""
    allowed = share(len(rows), workers, me)
    if len(mine) > allowed:
        return Moves((), tuple(mine[allowed:]))
    free = [r.partition for r in sorted(rows, key=lambda r: r.position) if not r.held and r.partition not in mine]
    return Moves(tuple(free[: allowed - len(mine)]), ())
