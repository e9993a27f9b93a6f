"""A record class, read: its columns, their types, constraints and remedies.

Invariant: columns(record) is a function of the class alone, in the order of its fields; two classes with equal columns are the same
record to every layer, whatever their names.
"""

import ast
import builtins
import dataclasses
import enum
import inspect
import textwrap
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin
from uuid import UUID

from pipeline.base.declared import is_ours, place
from pipeline.base.errors import DefinitionError, did_you_mean
from pipeline.base.types import ColumnType
from pipeline.definition.constraints import (
    Between,
    Clip,
    Constraint,
    Default,
    Nullable,
    OneOf,
    Precision,
    Remedy,
    Scale,
    keeps,
)
from pipeline.definition.marks import At, Epoch, FromRecord, Mark
from pipeline.definition.names import check_name
from pipeline.definition.paths import ELEMENT, Path, parse, tree

M = TypeVar("M", bound=Mark)
MISSING = type(dataclasses.MISSING)  # cloudpickle copies the instance, when it carries a record class by value
PYTHON_TYPES = {
    int: "int",
    float: "float",
    str: "str",
    bool: "bool",
    datetime: "datetime",
    date: "date",
}  # that an expression may give
MORE_TYPES = {bytes: "bytes", UUID: "uuid", time: "time"}


@dataclass(frozen=True)
class Column:
    """One column of a record. `remedy` None rejects the record when a constraint breaks; `nullable` allows null.

    `at` is where events have it, () at its own name; `marks` the other marks, in the order of their names, one of a kind.
    """

    name: str
    type: ColumnType
    nullable: bool
    constraints: tuple[Constraint, ...] = ()
    remedy: Remedy | None = None
    at: Path = ()
    marks: tuple[Mark, ...] = ()

    @property
    def path(self) -> Path:
        """The place where events have it; () when it is not in the event, but elsewhere in the record."""
        return () if self.mark(FromRecord) else self.at or (self.name,)

    @property
    def of_element(self) -> bool:
        """True for a column of the elements of the array that is exploded, not of the record."""
        return ELEMENT in self.at

    @property
    def epoch(self) -> str:
        """The unit of a time that is a number, "" for whole milliseconds alone."""
        found = self.mark(Epoch)
        return found.unit if found else ""

    def mark(self, kind: "builtins.type[M]") -> M | None:
        """The mark of that kind, None without one."""
        return next((mark for mark in self.marks if isinstance(mark, kind)), None)


def columns(record: type) -> tuple[Column, ...]:
    """The columns of a dataclass; DefinitionError, at the field's line, when a field's type or constraint cannot be."""
    if not (isinstance(record, type) and dataclasses.is_dataclass(record)):
        raise DefinitionError(f"record={record!r} is no dataclass; declare it with @dataclass(frozen=True)")
    return _columns(record)


def in_event(columns: Iterable[Column]) -> tuple[Column, ...]:
    """The columns whose values an event has: all but those of the record around it."""
    return tuple(column for column in columns if column.path)


@cache
def _columns(record: type) -> tuple[Column, ...]:
    hints = _hints(record)
    found = []
    for field in dataclasses.fields(record):
        try:
            found.append(_column(record.__name__, field, hints[field.name]))
        except DefinitionError as error:
            error.place = _line_of(record, field.name)
            raise
    if not found:
        raise DefinitionError(
            f"{record.__name__} has no columns; declare at least an identity, a key and an event time"
        )
    tree({column.name: column.path for column in found if column.path})
    return tuple(found)


def _hints(record: type) -> dict[str, Any]:
    """The annotations, evaluated: `from __future__ import annotations` makes them text."""
    try:
        return typing.get_type_hints(record, include_extras=True)
    except Exception as error:  # whatever an annotation raises is the user's to mend
        name = _unreadable(record)
        where = f"{record.__name__}.{name}" if name else record.__name__
        if isinstance(error, DefinitionError):
            text = f"{where}: {error.text}"
        elif isinstance(error, NameError):
            text = f"{where}: {error}; its annotations must be importable where it is declared"
        else:
            text = f"{where}: its annotation cannot be read: {' '.join(str(error).split())}"
        found = DefinitionError(text)
        found.place = _line_of(record, name)
        raise found from None


def _unreadable(record: type) -> str | None:
    """The first field whose annotation cannot be evaluated."""
    for owner in record.__mro__:
        for name, hint in vars(owner).get("__annotations__", {}).items():
            alone = type(owner.__name__, (), {"__annotations__": {name: hint}, "__module__": owner.__module__})
            try:
                typing.get_type_hints(alone, include_extras=True)
            except Exception:
                return str(name)
    return None


def _line_of(record: type, field: str | None) -> str | None:
    """file:line where the class declares the field; None when its source cannot be had (make_dataclass, a console)."""
    owner = next((c for c in record.__mro__ if field in vars(c).get("__annotations__", {})), record)
    if is_ours(owner.__module__):
        return None
    try:
        lines, first = inspect.getsourcelines(owner)
        file = inspect.getsourcefile(owner)
        (tree,) = ast.parse(textwrap.dedent("".join(lines))).body
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
    for node in tree.body if isinstance(tree, ast.ClassDef) else []:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == field:
            return place(file, first + node.lineno - 1) if file else None
    return None


def column_named(record: type, name: object, what: str) -> Column:
    """The column that `what` names, or a DefinitionError that lists those there are."""
    have = {column.name: column for column in columns(record)}
    if not isinstance(name, str) or name not in have:
        raise DefinitionError(
            f"{what} names column {name!r}, which {record.__name__} does not have; it has {', '.join(have)}."
            f"{did_you_mean(str(name), list(have))}"
        )
    return have[name]


def _column(record: str, field: "dataclasses.Field[Any]", hint: Any) -> Column:
    where = f"{record}.{field.name}"
    check_name(field.name, f"column {where}")
    marks: list[Any] = []
    hint, marks = _unwrap(hint, marks)
    nullable = False
    if get_origin(hint) in (typing.Union, types.UnionType):
        members = [a for a in get_args(hint) if a is not type(None)]
        if len(members) != 1 or len(get_args(hint)) != 2:
            raise DefinitionError(f"{where} is declared {hint}; a union is allowed only with None, as in `int | None`")
        nullable = True
        hint, marks = _unwrap(members[0], marks)
    if not (isinstance(field.default, MISSING) and isinstance(field.default_factory, MISSING)):
        raise DefinitionError(
            f"{where} has a dataclass default, which events never see; use Annotated[..., Default(value)]"
        )
    hint, marks = _enumerated(where, hint, [_plain(mark) for mark in marks])
    unknown = [m for m in marks if not isinstance(m, Constraint | Remedy | Mark)]
    if unknown:
        raise DefinitionError(f"{where}: {unknown[0]!r} is no constraint of pipeline; see `from pipeline import ...`")
    at, own_marks = _marks(where, marks)
    constraints = tuple(m for m in marks if isinstance(m, Constraint))
    remedies = [m for m in marks if isinstance(m, Remedy)]
    for kind in {type(c) for c in constraints}:
        if sum(type(c) is kind for c in constraints) > 1:
            raise DefinitionError(f"{where} has two {kind.__name__} constraints; give one")
    column_type = _type(where, hint, constraints)
    for constraint in constraints:
        constraint.check(where, column_type)
    if len(remedies) > 1:
        raise DefinitionError(f"{where} has {len(remedies)} remedies, {remedies}; a broken value can have only one")
    remedy = remedies[0] if remedies else None
    _check_remedy(where, column_type, nullable, constraints, remedy)
    for mark in own_marks:
        mark.check(where, column_type)
    return Column(field.name, column_type, nullable, constraints, remedy, () if at == (field.name,) else at, own_marks)


def _marks(where: str, given: list[Any]) -> tuple[Path, tuple[Mark, ...]]:
    """The path of At, () without one, and the other marks in the order of their names."""
    marks = [m for m in given if isinstance(m, Mark)]
    kinds: list[type[Mark]] = [FromRecord, *{type(m) for m in marks}]
    for kind in kinds:
        same = [m for m in marks if isinstance(m, kind)]
        if len(same) > 1:
            raise DefinitionError(
                f"{where} has {len(same)} marks {', '.join(sorted({type(m).__name__ for m in same}))}; give one"
            )
    at = next((m for m in marks if isinstance(m, At)), None)
    elsewhere = next((m for m in marks if isinstance(m, FromRecord)), None)
    if at and elsewhere:
        raise DefinitionError(f"{where} has {at} and {elsewhere}; a value is in the event or elsewhere in the record")
    others = sorted((m for m in marks if m is not at), key=lambda m: type(m).__name__)
    return parse(at.path) if at else (), tuple(others)


def _unwrap(hint: Any, marks: list[Any]) -> tuple[Any, list[Any]]:
    if get_origin(hint) is Annotated:
        inner, *more = get_args(hint)
        return inner, marks + more
    return hint, marks


def _enumerated(where: str, hint: Any, marks: list[Any]) -> tuple[Any, list[Any]]:
    """An enumeration is text that allows its values alone: str, and a OneOf before the other marks."""
    if get_origin(hint) is Literal:
        values = get_args(hint)
    elif isinstance(hint, type) and issubclass(hint, enum.Enum):
        values = tuple(member.value for member in hint)
    else:
        return hint, marks
    if not values or not all(isinstance(value, str) for value in values):
        raise DefinitionError(f"{where} is declared {hint!r}; allowed are enumerations whose values are all text")
    if any(isinstance(mark, OneOf) for mark in marks):
        raise DefinitionError(f"{where} is an enumeration, which allows its own values alone; leave OneOf out")
    return str, [OneOf(*(_value(value) for value in values)), *marks]


def _plain(mark: Any) -> Any:
    """The mark with the values of enumerations in the place of their members."""
    match mark:
        case Default(enum.Enum() as member):
            return Default(_value(member))
        case OneOf(options) if any(isinstance(option, enum.Enum) for option in options):
            return OneOf(*map(_value, options))
    return mark


def _value(given: Any) -> Any:
    return given.value if isinstance(given, enum.Enum) else given


def _type(where: str, hint: Any, constraints: tuple[Constraint, ...]) -> ColumnType:
    if hint is Decimal:
        return _decimal(where, [c for c in constraints if isinstance(c, Scale | Precision)])
    kinds = PYTHON_TYPES | MORE_TYPES
    if not isinstance(hint, builtins.type) or hint not in kinds:
        allowed = ", ".join(t.__name__ for t in (*kinds, Decimal))
        raise DefinitionError(f"{where} is declared {hint!r}; allowed are {allowed}, each also `| None`")
    return ColumnType(kinds[hint])


def _decimal(where: str, scales: list[Scale | Precision]) -> ColumnType:
    match scales:
        case [Scale(digits)]:
            return ColumnType("decimal", digits)
        case [Precision(digits, decimals)]:
            return ColumnType("wide", decimals, digits)
        case []:
            raise DefinitionError(
                f"{where} is a Decimal without a scale; declare Annotated[Decimal, Scale(2)], or Precision(38, 18) for more digits"
            )
    raise DefinitionError(f"{where} has {' and '.join(map(str, scales))}; give one")


def _check_remedy(
    where: str, type: ColumnType, nullable: bool, constraints: tuple[Constraint, ...], remedy: Remedy | None
) -> None:
    match remedy:
        case Nullable() if not nullable:
            raise DefinitionError(f"{where}: Nullable() sets null, which its type does not allow; declare it `| None`")
        case Clip() if not any(isinstance(c, Between) for c in constraints):
            raise DefinitionError(f"{where}: Clip() needs a Between beside it")
        case Clip() if type.kind == "str":
            raise DefinitionError(f"{where}: Clip() has no meaning for text")
        case Default(value) if not type.accepts(value):
            raise DefinitionError(f"{where}: Default({value!r}) is no value of type {type}")
        case Default(value) if not keeps(value, constraints):
            raise DefinitionError(f"{where}: Default({value!r}) breaks a constraint of its own column")
        case _:
            return
