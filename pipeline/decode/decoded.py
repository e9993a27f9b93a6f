"""The answer of every decoder about a block of records.

in = decoded + rejected + tombstones        rows and rejected are disjoint, rising, and together the records that are no tombstones
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from pipeline.columns.arrays import Ints, Mask


@dataclass(frozen=True)
class Decoded:
    """The records of a block that decode: `columns` by name, typed, before constraints.

    `rows` int64: their positions in the block. `breaches`: per column, True where a decimal had more decimals than its Scale (its
    value is null there). `rejected`: positions in the block. `tombstones`: how many values were null; `asked`: how many records the
    compiled parser left to the other one.
    """

    rows: Ints
    columns: dict[str, pa.Array]
    breaches: dict[str, Mask]
    rejected: Ints
    tombstones: int
    asked: int
    _reasons: Callable[[], list[str]]

    @cached_property
    def reasons(self) -> list[str]:
        """Reasons of `rejected`, in its order; the records are looked at again for it."""
        return self._reasons() if len(self.rejected) else []
