"""The registry's framing: what is no frame is rejected, and a JSON Schema's id is stepped over."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa

from pipeline import Json, Source
from pipeline.decode.avro_blocks import decode
from pipeline.decode.decode import DECODERS
from tests.pipeline.decode.test_avro_blocks import differs, differs_in_plain
from tests.pipeline.decode.test_avro_events import Small, body, schema, source
from tests.support.avro import Registry, framed


def test_frames_that_are_broken_reject() -> None:
    registry = Registry(schema(), '{"type": "nothing"}')
    good = framed(1, body())
    values = [
        b"",
        b"\0",
        b"\0\0\0\0",
        b"\1" + good[1:],
        b"{}",
        framed(0, body()),
        framed(2**31, body()),
        framed(9, body()),
        framed(2, body()),
        good,
    ]
    assert differs(source, [*values, None], registry, Counter()) == ""
    found = decode(source, pa.array([*values, None], pa.binary()), registry)
    assert found.rows.tolist() == [9] and found.tombstones == 1
    assert found.reasons[0] == "empty value"
    assert found.reasons[3] == "the value begins with byte 1, and not with the registry's magic byte 0"
    assert found.reasons[5:] == [
        "schema id 0, which no registry gives out",
        "schema id 2147483648, which no registry gives out",
        "schema id 9, which the registry does not know",
        "schema id 2 cannot be read: type 'nothing' is declared nowhere before it is used",
    ]


def test_json_behind_a_frame_is_json() -> None:
    """Json(framed=True) decodes as Json() does, whatever the id is."""
    framing = Source("json", Small, key="id", event_time="at", identity="id", format=Json(framed=True))
    event = b'{"id":"x","at":"2024-03-01T00:00:00Z","n":1.5}'
    values = [framed(5, event), b"", b"\0\0\0", event, framed(0, event), framed(7, b"{"), None, framed(8, event)]
    found = DECODERS[Json](framing, pa.array(values, pa.binary()), Registry())
    assert found.rows.tolist() == [0, 7] and found.columns["n"].to_pylist() == [1.5, 1.5] and found.tombstones == 1
    assert found.rejected.tolist() == [1, 2, 3, 4, 5]
    assert found.reasons == [
        "empty value",
        "a value of 3 bytes has no room for a schema id",
        "the value begins with byte 123, and not with the registry's magic byte 0",
        "schema id 0, which no registry gives out",
        "broken JSON: Expecting property name enclosed in double quotes at character 1",
    ]
    assert differs_in_plain(framing, values, Registry(), found) == ""
    assert repr(Json()) == "Json()" and Json(framed=True) != Json()
