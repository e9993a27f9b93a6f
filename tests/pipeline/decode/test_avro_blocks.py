"""The compiled reader of Avro, the record-by-record one and the plain reference are the same function.

    decode(values) = decode_records(values) = event(value) for each        on hard cases, and on 10⁵ events of schemas made at random

Whatever the compiled one does not leave to the other, it gets right to the bit: rows, columns, breaches, rejections.
"""

from __future__ import annotations

import json
import os
import random
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import Avro, Source
from pipeline.decode.avro_blocks import decode, decode_records
from pipeline.definition.marks import Text
from pipeline.definition.record import in_event
from pipeline.plain.formats import at, event
from pipeline.plain.json_text import Invalid
from pipeline.plain.validation import read_column
from pipeline.plain.values import TOO_FINE
from pipeline.plain.written import cleaned
from tests.support.avro import Registry, Schemas, framed, zigzag

FUZZED = int(os.environ.get("WATERSHED_TEST_FUZZED", "100000"))
BLOCK = 400


def bits(array: pa.Array) -> bytes:
    return bytes(np.asarray(array.fill_null(0.0).to_numpy(zero_copy_only=False), np.float64).tobytes())


def differs(source: Source, values: list[bytes | None], registry: Registry, asked: Counter[str]) -> str:
    """What the three make differently of the values; "" when nothing."""
    array = pa.array(values, pa.binary())
    one, other = decode(source, array, registry), decode_records(source, array, registry)
    asked.update(events=len(values), asked=one.asked, decoded=len(one.rows))
    asked.update(re.sub(r"^\w+: |[0-9]+", "", reason)[:24] for reason in one.reasons)
    if one.rows.tolist() != other.rows.tolist():
        row = sorted(set(one.rows.tolist()) ^ set(other.rows.tolist()))[0]
        return (
            f"row {row}, {values[row]!r}: compiled {'takes' if row in one.rows else 'rejects'} it, {other.reasons[:1]}"
        )
    if one.rejected.tolist() != other.rejected.tolist() or one.reasons != other.reasons:
        return f"rejected {one.rejected} {one.reasons}, by record {other.rejected} {other.reasons}"
    for name, column in other.columns.items():
        found = one.columns[name]
        found.validate(full=True)
        same = found.equals(column) and found.type == column.type
        if not same or (pa.types.is_floating(column.type) and bits(found) != bits(column)):
            row = next(
                i for i in range(len(column)) if not found[i].equals(column[i]) or repr(found[i]) != repr(column[i])
            )
            return f"{name} of {values[other.rows[row]]!r}: compiled {found[row]!r}, by record {column[row]!r}"
        breach, wanted = one.breaches.get(name), other.breaches.get(name)
        if (breach is None) != (wanted is None) or (breach is not None and not np.array_equal(breach, wanted)):
            return f"{name}: breaches {breach}, by record {wanted}"
    return differs_in_plain(source, values, registry, one)


def differs_in_plain(source: Source, values: list[bytes | None], registry: Registry, one: Any) -> str:
    place = {row: n for n, row in enumerate(one.rows.tolist())}
    columns = {name: array.to_pylist() for name, array in one.columns.items()}
    for row, value in enumerate(values):
        if value is None:
            continue
        try:
            whole = event(value, source.format, registry)
            wanted = {c.name: read_column(at(whole, c.path), c) for c in in_event(source.columns)}
        except Invalid as reason:
            if row in place:
                return f"{value!r}: the reference rejects it, {reason}"
            continue
        if row not in place:
            return f"{value!r}: the reference takes it, {one.reasons[one.rejected.tolist().index(row)]}"
        for name, cell in wanted.items():
            breach = name in one.breaches and bool(one.breaches[name][place[row]])
            found = TOO_FINE if breach else columns[name][place[row]]
            mark = next(c for c in source.columns if c.name == name).mark(Text)
            if mark is not None and found is not None:
                found = cleaned(found, mark)  # the layers do that behind decoding
            if found != cell or type(found) is not type(cell):
                return f"{name} of {value!r}: compiled {found!r}, in plain {cell!r}"
    return ""


def mutated(value: bytes, rng: random.Random) -> bytes:
    """Bytes changed, put in, left out, or cut off."""
    at, how = rng.randrange(len(value) + 1), rng.random()
    if how < 0.3:
        return value[:at] + bytes([rng.choice([0, 1, 2, 3, 127, 128, 255])]) + value[at + 1 :]
    if how < 0.5:
        return (
            value[:at]
            + rng.choice([b"\x80", b"\xff" * 9 + b"\x01", b"\xff" * 10, zigzag(2**62), zigzag(-(2**62)), b"\x01"])
            + value[at:]
        )
    return value[:at] if how < 0.75 else value[:at] + value[at + rng.randint(1, 3) :]


def fuzz(rng: random.Random, asked: Counter[str], events: int, second: float) -> None:
    """So many events through all readers; a share of columns are of the types that the record-by-record reader reads."""
    while asked["events"] < events:
        made = Schemas(rng, second)
        schemas = [made.event() for _ in range(rng.choice([1, 1, 2]))]
        kept = []
        for schema in schemas:
            kept.append((schema, dict(made.named)))
        made.named = {name: one for _, names in kept for name, one in names.items()}
        registry, values = Registry(*schemas), list[bytes | None]()
        source = made.source(schemas[0], Avro())
        for _ in range(BLOCK):
            id = rng.randrange(len(schemas))
            value = framed(id + 1, made.body(schemas[id]))
            values.append(mutated(value, rng) if rng.random() < 0.2 else value)
        values[rng.randrange(BLOCK)] = None
        found = differs(source, values, registry, asked)
        assert found == "", f"{found}\n{json.dumps(schemas)}\n{source.columns}"


def test_all_readers_agree_on_types_of_a_second_pass() -> None:
    asked = Counter[str]()
    fuzz(random.Random(12), asked, FUZZED // 10, 0.5)
    assert asked["asked"] > 0.05 * asked["events"]


def test_all_readers_agree_on_fuzzed_events_of_fuzzed_schemas(say: Callable[[str], None]) -> None:
    rng, asked = random.Random(11), Counter[str]()
    fuzz(rng, asked, FUZZED, 0.0)
    reasons = ", ".join(
        f"{n:,} {name}" for name, n in asked.most_common(40) if name not in ("events", "asked", "decoded")
    )
    say(
        f"{asked['events']:,} fuzzed Avro events, 0 differences; {asked['asked']:,} left to the other reader: {reasons}"
    )
    assert asked["decoded"] > 0.2 * asked["events"] and asked["asked"] < 0.05 * asked["events"]
    assert len(asked) > 20, asked
