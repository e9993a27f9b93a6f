"""Protobuf from the topic to the answer, on real servers: worker, night, audit, and the reference, with 0 differences."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline import Protobuf, Source
from sandbox.schema_registry import SchemaRegistry
from tests.support.docs import blocks
from tests.support.protobufs import by_library, framed, library, mutated
from tests.support.system import System

pytestmark = pytest.mark.slow


def declared(topic: str, folder: Path) -> str:
    """The module of the page on events, with its payment.proto beside it; bare messages."""
    (proto,) = blocks("docs/EVENTS.md", "protobuf")
    (folder / "payment.proto").write_text(proto)
    (module,) = [block for block in blocks("docs/EVENTS.md", "python") if "Protobuf(" in block]
    return module.replace('topic="payments"', f"topic={topic!r}")


def payments(folder: Path, count: int) -> tuple[Source, list[bytes]]:
    """The page's source by itself, and messages that the library wrote: every 10th is sent again, every 7th broken."""
    names: dict[str, Any] = {"__name__": __name__}
    text = declared("payments", folder).replace('"payment.proto"', repr(str(folder / "payment.proto")))
    exec(compile(text, "docs/EVENTS.md", "exec", dont_inherit=True), names)
    source, rng = names["payments"], random.Random(5)
    assert isinstance(source, Source) and isinstance(source.format, Protobuf)
    make, found = library(source), list[bytes]()
    for n in range(count):
        one = make(id=f"p-{n}", amount=f"{n}.25", state=n % 3)
        one.created_at.FromDatetime(datetime(2024, 3, 1 + n % 3, n % 24, tzinfo=UTC))
        one.customer.country = ("CH", "DE", "")[n % 3]
        for k in range(n % 3):
            one.items.add(sku=f"sku-{n % 5}", count=k)
        if n % 2:
            one.card = "4111"
        else:
            one.iban = "CH93"
        value = one.SerializeToString()
        found.append(mutated(value, rng) if n % 7 == 3 else value)
        found += found[-5:-4] if n % 10 == 9 else []
    return source, found


def test_payments_in_protobuf_go_from_the_topic_to_the_answer(system: System, tmp_path: Path) -> None:
    _, sent = payments(tmp_path, 600)
    system.define(declared(system.topic, system.folder))
    system.run("init", "--partitions", "2")
    system.produce((sum(value) % 2, None, value) for value in sent[:300])
    system.catch_up()
    system.assert_exact()
    system.night("2024-03-01")
    system.produce((sum(value) % 2, None, value) for value in sent[300:])
    system.catch_up()
    system.assert_exact()
    system.run("audit", "--reference")
    counts = system.query("SELECT sum(accepted) a, sum(duplicates) d, sum(rejected) r FROM serving.accounting")[0]
    assert (
        counts["a"] + counts["d"] + counts["r"] == len(sent)
        and counts["a"] > 500
        and counts["d"] > 20
        and counts["r"] > 20
    )
    system.night("2024-03-02")
    system.assert_exact()
    system.run("audit", "--reference")
    days = {row["window_start"].date() for row in system.query("SELECT * FROM serving.payments_by_country")}
    assert {date(2024, 3, 1), date(2024, 3, 2), date(2024, 3, 3)} <= days


def test_payments_behind_a_registrys_frame_are_exact_and_an_id_that_it_lacks_is_rejected(
    system: System, tmp_path: Path
) -> None:
    _, sent = payments(tmp_path, 300)
    module = declared(system.topic, system.folder).replace(', schema="payment.proto"', "")
    assert module != declared(system.topic, system.folder)
    (proto,) = blocks("docs/EVENTS.md", "protobuf")
    with SchemaRegistry() as registry:
        system.environment["WATERSHED_SCHEMA_REGISTRY"] = registry.url
        id = registry.register("payments-value", proto, "PROTOBUF")
        system.define(module)
        system.run("init", "--partitions", "2")
        system.produce((sum(value) % 2, None, framed(id, value)) for value in sent[:200])
        system.produce([(0, None, framed(id + 7, sent[0]))])
        system.catch_up()
        system.night("2024-03-01")
        registry.stop()  # what an id stands for is decided: nobody has to be asked again
        system.produce((sum(value) % 2, None, framed(id, value)) for value in sent[200:])
        system.catch_up()
        system.night("2024-03-02")
        system.assert_exact()
    counts = system.query("SELECT sum(accepted) a, sum(duplicates) d, sum(rejected) r FROM serving.accounting")[0]
    assert counts["a"] + counts["d"] + counts["r"] == len(sent) + 1
    assert counts["a"] > 250
    told = system.run("rejected", "--json", "--reason", f"{id + 7}").stdout
    assert f"schema id {id + 7}" in told


def test_the_page_s_message_is_read_as_the_page_says(tmp_path: Path) -> None:
    import pyarrow as pa

    from pipeline.decode.protobuf_blocks import decode
    from pipeline.decode.schemas import NoSchemas

    source, sent = payments(tmp_path, 30)
    found = decode(source, pa.array(sent[:3], pa.binary()), NoSchemas())
    wanted = [by_library(source, library(source).FromString(value)) for value in sent[:3]]
    assert found.columns["id"].to_pylist() == ["p-0", "p-1", "p-2"] == [row["id"] for row in wanted if row]
    assert found.columns["state"].to_pylist() == ["NEW", "PAID", "REFUNDED"]
    assert found.columns["card"].to_pylist() == [None, "4111", None] and found.columns["sku"].to_pylist() == [
        None,
        "sku-1",
        "sku-2",
    ]
