"""Events as people have them, from the topic to the answer, on real servers."""

from __future__ import annotations

import json

import pytest

from tests.support.docs import blocks
from tests.support.system import System


@pytest.mark.slow
def test_the_examples_of_the_page_on_events_run_from_the_event_to_the_answer(system: System) -> None:
    (module, *_), (events,) = blocks("docs/EVENTS.md", "python"), blocks("docs/EVENTS.md", "json")
    system.define(module.replace('topic="pushes"', f"topic={system.topic!r}"))
    system.run("init", "--partitions", "1")
    first, *rest = events.splitlines()
    system.produce([(0, b"acme/shop", first.encode())])
    system.night("2024-03-01")
    system.produce((0, b"acme/shop", event.encode()) for event in rest)
    system.catch_up()
    assert system.query("SELECT accepted, duplicates, rejected FROM serving.accounting") == [
        {"accepted": 2, "duplicates": 1, "rejected": 1}
    ]
    (row,) = system.query("SELECT * FROM serving.pushes_by_day")
    assert (row["repository"], row["pushes"], row["commits"], row["people"]) == ("acme/shop", 2, 3, 2)
    assert row["window_start"].isoformat() == "2024-03-01T00:00:00+00:00"
    assert (row["last_message"], row["last_trace"]) == ('fix "it"\nat last', "t-1"), "nulls are passed over"
    system.night("2024-03-02")
    system.assert_exact()
    system.run("audit", "--reference")


def test_what_the_page_says_of_the_rejected_event_is_its_reason() -> None:
    import pyarrow as pa

    from pipeline.decode.json_blocks import decode

    names: dict[str, object] = {"__name__": __name__}
    (module, *_), (events,) = blocks("docs/EVENTS.md", "python"), blocks("docs/EVENTS.md", "json")
    exec(compile(module, "docs/EVENTS.md", "exec", dont_inherit=True), names)
    found = decode(
        names["pushes"],
        pa.array([json.dumps(json.loads(e)) for e in events.splitlines()], pa.string()).cast(pa.binary()),
    )  # type: ignore[arg-type]
    assert found.reasons == ["repository: text at repository where an object is declared"]
