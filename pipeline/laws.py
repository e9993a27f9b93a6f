"""The laws of an aggregate, as a test: what makes one cut of the log as good as any other.

    (a ⊕ b) ⊕ c = a ⊕ (b ⊕ c)      a ⊕ b = b ⊕ a      a ⊕ zero = a      lift(x ++ y) = lift(x) ⊕ lift(y)      all to the bit

Hold an aggregate of your own to them before a view uses it; three lines, with hypothesis installed:

    from pipeline.laws import hold

    def test_my_aggregate_is_exact():
        hold(MyAggregate("price"), Scale(2))

The SQL of an aggregate is not looked at here: `watershed audit --reference` compares what Postgres answers.
"""

import dataclasses
import pickle
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.aggregates.base import Aggregate, Measure, Rows, State
from pipeline.columns.arrays import Ints, valid
from pipeline.law_inputs import boundaries, column_type, column_types, hypothesis_here, inputs

BITS = {pa.float16(): pa.uint16(), pa.float32(): pa.uint32(), pa.float64(): pa.uint64()}
SHOWN = 12  # rows of a state in a message


class LawBroken(AssertionError):
    """An aggregate breaks a law; `law` is the law's name, the text shows the states on both sides."""

    def __init__(self, law: str, text: str) -> None:
        super().__init__(text)
        self.law = law


def same_bits(a: Any, b: Any) -> bool:
    """True when two arrays have one type, nulls in the same places and the same bits elsewhere: -0.0 is not 0.0, NaN is NaN."""
    if a.type != b.type or len(a) != len(b) or not np.array_equal(valid(a), valid(b)):
        return False
    if a.type in BITS:
        return bool(a.view(BITS[a.type]).equals(b.view(BITS[b.type])))
    if pa.types.is_struct(a.type):
        return all(same_bits(x, y) for x, y in zip(a.flatten(), b.flatten(), strict=True))
    if pa.types.is_list(a.type) or pa.types.is_large_list(a.type) or pa.types.is_fixed_size_list(a.type):
        lengths = pc.list_value_length(a).equals(pc.list_value_length(b))
        return bool(lengths) and same_bits(a.flatten(), b.flatten())
    return bool(a.equals(b))


def check(
    aggregate: Aggregate,
    type: Any,
    rows: Rows,
    *,
    group: Sequence[int] | Ints | None = None,
    groups: int | None = None,
    splits: Sequence[int] | None = None,
) -> None:
    """Hold the aggregate to every law on these rows; raises LawBroken, or DefinitionError when the type is not for it.

    `type` is Scale(n), Precision(n, m), int, float, str, bytes, UUID, bool, date, datetime, time, None for an aggregate without a
    column, or a tuple of types for one of several. `group` gives each row's group in [0, groups) (default: all in group 0, beside an empty
    group 1); `splits` the row numbers at which the rows are cut into batches (default: in thirds). The usual mistake:
    rows with one (partition, offset) twice, which no log has.
    """
    wanted = column_types(type)
    aggregate.check(wanted, f"laws of {aggregate}")
    measure = aggregate.over(*wanted)
    number = np.zeros(len(rows), np.int64) if group is None else np.asarray(group, np.int64)
    count = groups if groups is not None else int(number.max(initial=0)) + 2
    cuts = sorted({0, len(rows), *(splits if splits is not None else (len(rows) // 3, 2 * len(rows) // 3))})
    _check_input(measure, rows, number, count, cuts)
    trial = _Trial(measure, rows, number, count, cuts)
    for law in LAWS:
        law(trial)


def _check_input(measure: Measure, rows: Rows, group: Ints, groups: int, cuts: list[int]) -> None:
    have, needed = [column.type for column in rows.columns], [type.arrow for type in measure.types]
    if have != needed:
        given, wanted = (", ".join(map(str, types)) or "none" for types in (have, needed))
        raise ValueError(f"check: the rows have columns of types {given}; {measure} needs {wanted}")
    lengths = {len(group), len(rows.event_time_us), len(rows.partition), len(rows.offset), *map(len, rows.columns)}
    if len(lengths) != 1:
        raise ValueError(
            f"check: column, event_time_us, partition, offset and group have lengths {sorted(lengths)}; needed is one"
        )
    if len(group) and not (group.min() >= 0 and group.max() < groups):
        raise ValueError(f"check: groups from {group.min()} to {group.max()} are not in [0, {groups})")
    if cuts[0] < 0 or cuts[-1] > len(rows):
        raise ValueError(f"check: splits {cuts} are not in [0, {len(rows)}]")
    if len(set(zip(rows.partition.tolist(), rows.offset.tolist(), strict=True))) != len(rows):
        raise ValueError("check: two rows have the same partition and offset; a log has one record at an offset")


class _Trial:
    """One aggregate over one set of rows, and the few operations that laws are written in."""

    def __init__(self, measure: Measure, rows: Rows, group: Ints, groups: int, cuts: list[int]) -> None:
        self.measure, self.rows, self.group, self.groups = measure, rows, group, groups
        self.parts = [np.arange(start, end) for start, end in pairwise(cuts)]
        self.whole = self.lift(np.arange(len(rows)))
        self.states = [self.lift(part) for part in self.parts]

    def lift(self, which: Ints, group: Ints | None = None, groups: int | None = None) -> State:
        """The state of the rows `which`, in that order."""
        rows, contiguous = self.rows, len(which) and (np.diff(which) == 1).all()
        columns = tuple(  # a contiguous part is a slice: its buffers begin before its first row
            c.slice(int(which[0]), len(which)) if contiguous else c.take(pa.array(which, pa.int64()))
            for c in rows.columns
        )
        part = Rows(columns, rows.event_time_us[which], rows.partition[which], rows.offset[which])
        number = self.group[which] if group is None else group
        return self.measure.lift(part, number, self.groups if groups is None else groups)

    def merge(self, *states: State) -> State:
        """The ⊕ of states, group by group."""
        fields = zip(*states, strict=True)
        columns = tuple(pa.concat_arrays(list(field)) for field in fields)
        group = np.tile(np.arange(self.groups, dtype=np.int64), len(states))
        return self.measure.merge(columns, group, self.groups)

    def zero(self) -> State:
        return self.measure.zero(self.groups)

    def same(self, law: str, left: State, right: State, *show: tuple[str, State]) -> None:
        """`left` and `right` to the bit, or LawBroken with both and the states they came from."""
        if len(left) == len(right) and all(same_bits(a, b) for a, b in zip(left, right, strict=True)):
            return
        shown = [*show, ("left side", left), ("right side", right)]
        raise self.broken(law, "\n".join(f"  {name} = {self._shown(state)}" for name, state in shown))

    def broken(self, law: str, detail: str) -> LawBroken:
        return LawBroken(law.split(":")[0], f"{self.measure} breaks {law}\n{detail}")

    def _shown(self, state: State) -> str:
        names = [f.name for f in self.measure.fields]
        names += ["value"] * (len(state) - len(names))
        fields = (f"{n}={a.slice(0, SHOWN).to_pylist()}" for n, a in zip(names, state, strict=False))
        return f"({', '.join(fields)}{', ...' if state and len(state[0]) > SHOWN else ''})"


def declared(trial: _Trial) -> None:
    """Fields and values are of the types that the aggregate declares, one row per group, and valid Arrow."""
    law = "declared: arrays are as fields and value declare"
    fields, value = trial.measure.fields, trial.measure.value
    _as_declared(trial, law, "lift", trial.whole, [(f.name, f.arrow) for f in fields])
    _as_declared(trial, law, "merge", trial.merge(*trial.states, trial.zero()), [(f.name, f.arrow) for f in fields])
    _as_declared(trial, law, "zero", trial.zero(), [(f.name, f.arrow) for f in fields])
    _as_declared(trial, law, "present", (trial.measure.present(trial.whole),), [("value", value.arrow)])


def _as_declared(trial: _Trial, law: str, what: str, got: State, want: list[tuple[str, pa.DataType]]) -> None:
    if len(got) != len(want):
        raise trial.broken(law, f"  {what} gives {len(got)} arrays, declared are {[name for name, _ in want]}")
    for array, (name, arrow) in zip(got, want, strict=True):
        if not isinstance(array, pa.Array) or array.type != arrow:
            raise trial.broken(
                law, f"  {what} gives {getattr(array, 'type', array)!s} for {name!r}, declared is {arrow}"
            )
        if len(array) != trial.groups:
            raise trial.broken(law, f"  {what} gives {len(array)} rows of {name!r} for {trial.groups} groups")
        try:
            array.validate(full=True)
        except pa.ArrowInvalid as error:
            raise trial.broken(law, f"  {what} gives an invalid array for {name!r}: {error}") from None


def zero_without_rows(trial: _Trial) -> None:
    """lift of no rows = zero, in a batch without rows and in a group without rows."""
    law = "zero: a group without rows has the state zero"
    zero = trial.zero()
    trial.same(law, trial.lift(np.empty(0, np.int64)), zero)
    empty = pa.array(np.setdiff1d(np.arange(trial.groups), trial.group))
    trial.same(law, _take(trial.whole, empty), _take(zero, empty), ("lift(rows)", trial.whole))


def identity(trial: _Trial) -> None:
    """a ⊕ zero = zero ⊕ a = a, and the ⊕ of one state is that state."""
    law = "identity: a ⊕ zero = a"
    for state in (trial.whole, *trial.states):
        trial.same(law, trial.merge(state, trial.zero()), state, ("a", state))
        trial.same(law, trial.merge(trial.zero(), state), state, ("a", state))
        trial.same(law, trial.merge(state), state, ("a", state))


def commutativity(trial: _Trial) -> None:
    """a ⊕ b = b ⊕ a, and rows may come in any order."""
    law = "commutativity: a ⊕ b = b ⊕ a"
    for a, b in pairwise(trial.states):
        trial.same(law, trial.merge(a, b), trial.merge(b, a), ("a", a), ("b", b))
    turned = np.arange(len(trial.rows))[::-1]
    mixed = np.random.default_rng(len(trial.rows)).permutation(len(trial.rows))
    for order in (turned, mixed):
        what = f"order of rows {order[:SHOWN].tolist()}"
        trial.same(f"commutativity: lift must not depend on the order of rows ({what})", trial.lift(order), trial.whole)


def associativity(trial: _Trial) -> None:
    """(a ⊕ b) ⊕ c = a ⊕ (b ⊕ c) = the ⊕ of all three at once."""
    law = "associativity: (a ⊕ b) ⊕ c = a ⊕ (b ⊕ c)"
    for a, b, c in zip(trial.states, trial.states[1:], trial.states[2:], strict=False):
        left, right = trial.merge(trial.merge(a, b), c), trial.merge(a, trial.merge(b, c))
        trial.same(law, left, right, ("a", a), ("b", b), ("c", c))
        trial.same(law, trial.merge(a, b, c), left, ("a", a), ("b", b), ("c", c))


def concatenation(trial: _Trial) -> None:
    """lift(x ++ y ++ ...) = lift(x) ⊕ lift(y) ⊕ ..., cut into batches anywhere, and one row at a time."""
    law = "concatenation: lift(x ++ y) = lift(x) ⊕ lift(y)"
    if trial.states:
        shown = [
            (f"lift(rows[{p[0]}:{p[-1] + 1}])", s) for p, s in zip(trial.parts, trial.states, strict=True) if len(p)
        ]
        trial.same(law, trial.whole, trial.merge(*trial.states), *shown)
    if 0 < len(trial.rows) <= 64:
        single = [trial.lift(np.array([row])) for row in range(len(trial.rows))]
        trial.same(law + ", each row a batch", trial.whole, trial.merge(*single))


def separation(trial: _Trial) -> None:
    """The state of a group depends on the rows of that group alone, and not on the number that the group has."""
    law = "separation: a group's state depends on its own rows alone"
    for number in np.unique(trial.group)[:SHOWN]:
        own = np.flatnonzero(trial.group == number)
        alone = trial.lift(own, np.zeros(len(own), np.int64), 1)
        trial.same(f"{law} (group {number})", _take(trial.whole, pa.array([int(number)])), alone)
    turned = trial.measure.merge(trial.whole, np.arange(trial.groups)[::-1].copy(), trial.groups)
    backwards = pa.array(np.arange(trial.groups)[::-1])
    trial.same(f"{law} (groups renumbered by merge)", turned, _take(trial.whole, backwards))


def presentation(trial: _Trial) -> None:
    """present depends on the state alone: row by row, in any order, from any copy or slice of the same bits."""
    law = "presentation: present is a function of the state, row by row"
    measure, state = trial.measure, trial.whole
    value = measure.present(state)
    backwards = pa.array(np.arange(trial.groups)[::-1])
    trial.same(law, (measure.present(_take(state, backwards)),), _take((value,), backwards), ("state", state))
    padded = tuple(pa.concat_arrays([a, a]).slice(trial.groups) for a in state)
    trial.same(law + " (a slice)", (measure.present(padded),), (value,), ("state", state))
    merged = trial.merge(state, trial.zero())
    trial.same(law + " (merged)", (measure.present(merged),), (value,), ("state", state))


def definition(trial: _Trial) -> None:
    """An aggregate is a value: it pickles, equals its copy, and its canonical form names every parameter it has."""
    law = "definition: an aggregate is a picklable value, and canonical() names its parameters"
    aggregate = trial.measure.aggregate
    if pickle.loads(pickle.dumps(trial.measure)) != trial.measure:
        raise trial.broken(
            law, f"  its {type(trial.measure).__name__} does not come back from pickle: leave its fields to Measure"
        )
    copy = pickle.loads(pickle.dumps(aggregate))
    if copy != aggregate or hash(copy) != hash(aggregate) or copy.canonical() != aggregate.canonical():
        raise trial.broken(
            law, f"  {aggregate!r} comes back from pickle as {copy!r}: declare the class @dataclass(frozen=True)"
        )
    for parameter in dataclasses.fields(aggregate):
        value = repr(getattr(aggregate, parameter.name))
        if value not in aggregate.canonical():
            text = f"{parameter.name}={value} is not in {aggregate.canonical()!r}: two views that differ in it would look the same"
            raise trial.broken(law, f"  {text}")


LAWS: tuple[Callable[[_Trial], None], ...] = (
    definition,
    declared,
    zero_without_rows,
    identity,
    commutativity,
    associativity,
    concatenation,
    separation,
    presentation,
)


def _take(state: State, which: pa.Array) -> State:
    return tuple(a.take(which.cast(pa.int64())) for a in state)


def hold(aggregate: Aggregate, type: Any = None, *, examples: int = 100) -> None:
    """Hold the aggregate to every law on `examples` inputs drawn by hypothesis; raises LawBroken with the smallest that breaks one.

    `type` is that of the aggregate's column: Scale(n), Precision(n, m), int, float, str, bytes, UUID, bool, date, datetime, time, None
    for no column, or a tuple of types for several. Needs hypothesis; without it, call check() on rows of your own.
    """
    hypothesis = hypothesis_here()
    # That one costs as much again and explains only values
    phases = [p for p in hypothesis.Phase if p.name != "explain"]

    def every_law(drawn: tuple[Rows, Ints, int, list[int]]) -> None:
        rows, group, groups, splits = drawn
        check(aggregate, type, rows, group=group, groups=groups, splits=splits)

    settings = hypothesis.settings(max_examples=examples, deadline=None, database=None, phases=phases)
    settings(hypothesis.given(inputs(type))(every_law))()


__all__ = ["LawBroken", "boundaries", "check", "column_type", "column_types", "hold", "inputs", "same_bits"]
