"""A column computed from one record: an expression, and the type that its result is rounded to.

equal(a, b)  <=>  equal trees and equal types
"""

from dataclasses import dataclass, field
from typing import Any

import pyarrow.compute as pc

from pipeline.base.declared import Compared
from pipeline.base.errors import DefinitionError
from pipeline.base.types import ColumnType
from pipeline.definition.constraints import Scale
from pipeline.definition.expressions import Node, parse
from pipeline.definition.record import PYTHON_TYPES


@dataclass(frozen=True, eq=False)
class Derived(Compared):
    """A column computed from one record: a pyarrow.compute expression and the type that its result is rounded to.

    `type` is Scale(n) for a decimal (the exact float rounded half-even), or int, float, str, bool, date, datetime. A result that
    cannot be had (division by zero, NaN, overflow, a cast that loses) rejects the record for this view alone. The usual mistake:
    decimal columns enter as floats, so `pc.field("price") * 3` of 0.1 is 0.30000000000000004 until Scale rounds it.
    """

    expression: pc.Expression
    type: Any
    tree: Node = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tree", parse(self.expression, "Derived"))
        if not isinstance(self.type, Scale) and not (isinstance(self.type, type) and self.type in PYTHON_TYPES):
            allowed = ", ".join(t.__name__ for t in PYTHON_TYPES)
            raise DefinitionError(f"Derived({self.expression}) has type {self.type!r}; allowed are Scale(n), {allowed}")

    @property
    def column_type(self) -> ColumnType:
        return (
            ColumnType("decimal", self.type.digits)
            if isinstance(self.type, Scale)
            else ColumnType(PYTHON_TYPES[self.type])
        )

    def _same(self) -> tuple[Any, ...]:
        return (self.tree, self.column_type)
