"""The benchmarks compute what they say, on few events; nothing here is timed.

the events are a function of the seed        generator's groups = plain Python's groups = the product's groups
"""

import json
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pytest

from benchmarks import formats, protobuf, push, shapes
from benchmarks.events import (
    BROKEN,
    CHUNK,
    COPIES,
    COPY_DISTANCE,
    FLAT,
    LATE,
    LATE_MS,
    PARTITIONS,
    SCHEMA,
    Chunk,
    Form,
    canonical,
    chunks,
    expected,
    key_texts,
)
from benchmarks.measure import BenchmarkError
from benchmarks.nested import BACKLOG as NESTED
from benchmarks.peers.common import Fold, flat, minute_text, nested
from benchmarks.place import same
from benchmarks.speed import ALL, BACKLOG, KAFKA_PYTHON, OURS, OURS_RAW, Backlog, filled, measure
from benchmarks.views_bench import events
from benchmarks.views_nested import pushes
from benchmarks.webhooks import WEBHOOK
from pipeline import Source
from tests.conftest import need_real_kafka, need_real_postgres
from tests.support.events import ingest

FEW = 20_000
in_both_forms = pytest.mark.parametrize("form", [FLAT, WEBHOOK], ids=["flat", "nested"])


def few(seed: int = 5, count: int = FEW, form: Form = FLAT) -> Chunk:
    (chunk,) = chunks(seed, count, form=form)
    return chunk


@in_both_forms
def test_events_are_a_function_of_the_seed(form: Form) -> None:
    one, same_seed, other = few(form=form), few(form=form), few(seed=6, form=form)
    assert one.values.equals(same_seed.values)
    assert not one.values.equals(other.values)


@pytest.mark.parametrize("name", formats.cases())
def test_a_format_is_measured_and_what_was_sent_is_found(name: str) -> None:
    found = formats.measure(name, 500, rounds=1)
    assert found.ours_k_per_s > 0 and found.asked == 0


@pytest.mark.parametrize("shape", shapes.SHAPES)
def test_every_shape_is_decoded_as_json_reads_it_and_none_is_left_to_the_slow_parser(shape: str) -> None:
    found = shapes.measure(shape, 500, rounds=1)
    assert found.asked == 0 and found.bytes > 70


@pytest.mark.parametrize("shape", protobuf.SHAPES)
def test_every_message_is_decoded_as_the_library_reads_it_and_none_is_left_to_the_slow_parser(shape: str) -> None:
    found = protobuf.measure(shape, 500, rounds=1)
    assert found.asked == 0 and found.bytes > 40


def test_nested_events_say_what_the_flat_ones_say() -> None:
    for flat_value, value, broken in zip(
        few().values.to_pylist(), few(form=WEBHOOK).values.to_pylist(), few().broken.tolist(), strict=True
    ):
        if not broken:
            one, other = json.loads(flat_value), json.loads(value)
            at = datetime.fromisoformat(one["at"]).replace(microsecond=0).timestamp()
            of_repository = other["repository"]["name"], other["repository"]["pushedAt"]
            assert (one["id"], one["key"], at) == (other["delivery"]["id"], *of_repository)
            assert one["value"] == other["usage"]["compute"]["amount"]


def test_a_nested_event_has_about_600_bytes_an_escape_and_an_array_of_commits() -> None:
    values = few(form=WEBHOOK).values.to_pylist()
    assert 550 < sum(map(len, values)) / FEW < 650
    whole = [json.loads(v) for v, broken in zip(values, few().broken.tolist(), strict=True) if not broken]
    assert {len(event["commits"]) for event in whole} == {1, 2}
    assert all('"cut" of the night\nsee #' in commit["message"] for event in whole for commit in event["commits"])


@pytest.mark.parametrize("cut", [1, 777, CHUNK, CHUNK + 1, 2 * CHUNK - 1])
def test_events_do_not_depend_on_where_a_run_of_them_begins_or_ends(cut: int) -> None:
    whole = pa.concat_arrays([c.values for c in chunks(5, 2 * CHUNK)])
    parts = [c.values for start, stop in ((0, cut), (cut, 2 * CHUNK)) for c in chunks(5, stop, start=start)]
    assert pa.concat_arrays(parts).equals(whole)


def test_the_shares_are_those_that_the_benchmarks_state() -> None:
    (chunk,) = chunks(5, CHUNK)
    assert 100 < sum(map(len, chunk.values.to_pylist())) / CHUNK < 112
    for mask, share in ((chunk.late, LATE), (chunk.copy, COPIES), (chunk.broken, BROKEN)):
        assert abs(mask.mean() - share) < 5 * (share / CHUNK) ** 0.5
    assert set(chunk.partition.tolist()) == set(range(PARTITIONS))


def test_a_copy_equals_an_earlier_event_of_its_partition_and_nothing_else_comes_twice() -> None:
    chunk, first = few(), dict[str, int]()
    texts = chunk.values.to_pylist()
    for n, text in enumerate(texts):
        identity = text[:44]
        assert (identity in first) == bool(chunk.copy[n])
        if chunk.copy[n]:
            origin = first[identity]
            assert (texts[origin], chunk.key[origin]) == (text, chunk.key[n])
            assert n - origin <= COPY_DISTANCE * 2
        first.setdefault(identity, n)


def test_a_late_event_is_at_most_five_minutes_behind_the_newest_before_it() -> None:
    chunk = few()
    newest, behind = 0, []
    for n, minute in enumerate(chunk.minute.tolist()):
        if chunk.late[n] and not chunk.copy[n]:
            behind.append(newest - minute)
        newest = max(newest, minute)
    assert 0 <= min(behind) < max(behind) == LATE_MS // 60_000


@in_both_forms
def test_plain_python_finds_the_groups_that_the_generator_expects(form: Form) -> None:
    fold = Fold(json.loads, flat if form is FLAT else nested)
    fold.feed(few(form=form).values.to_pylist())
    rows = [(key, minute_text(minute), *group) for (key, minute), group in fold.groups.items()]
    found = canonical(pa.table(dict(zip(SCHEMA.names, map(pa.array, zip(*rows, strict=True)), strict=True))))
    same(found, expected(5, FEW), "plain Python")
    assert fold.rejected == few().broken.sum()


@pytest.mark.parametrize(("source", "form"), [(events, FLAT), (pushes, WEBHOOK)], ids=["flat", "nested"])
def test_the_product_accepts_all_but_the_copies_and_the_broken(source: Source, form: Form) -> None:
    chunk = few(form=form)
    for partition in range(PARTITIONS):
        mine = chunk.partition == partition
        got = ingest(source, chunk.values.filter(pa.array(mine)).to_pylist())
        assert got.accepted.num_rows == (mine & ~chunk.copy & ~chunk.broken).sum()
        assert got.rejected.num_rows == (mine & chunk.broken).sum() > 0


def test_a_contender_with_one_other_number_is_named() -> None:
    right = expected(5, 1000)
    wrong = right.set_column(
        3, "sum", pa.array([right.column("sum")[0].as_py() + 1, *right.column("sum").to_pylist()[1:]])
    )
    with pytest.raises(BenchmarkError, match=r"somebody has .* 1 differ"):
        same(wrong, right, "somebody")
    with pytest.raises(BenchmarkError, match="1 differ"):
        same(right.slice(1), right, "somebody")


def test_the_kafka_key_is_the_key_of_the_event() -> None:
    chunk, texts = few(), key_texts()
    for value, key, broken in zip(chunk.values.to_pylist(), chunk.key.tolist(), chunk.broken.tolist(), strict=True):
        if not broken:
            assert json.loads(value)["key"].encode() == texts[key]


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.parametrize("backlog", [BACKLOG, NESTED], ids=lambda backlog: backlog.name)
def test_product_and_kafka_python_agree_on_a_backlog_and_the_audit_finds_nothing(backlog: Backlog) -> None:
    need_real_kafka()
    need_real_postgres()
    peer = next(p for p in ALL if p.name == KAFKA_PYTHON)
    with filled(5, FEW, FEW, backlog=backlog) as bench:
        found = measure(bench, (peer,), repeats=1)  # raises when a result or the audit is not right
        assert bench.audited_rows == bench.wanted.num_rows + bench.wanted_copies.num_rows
    assert [(t.contender, t.events) for t in found] == [(OURS, FEW), (OURS_RAW, FEW), (KAFKA_PYTHON, FEW)]


@pytest.mark.slow
@pytest.mark.kafka
def test_both_endpoints_acknowledge_every_event_that_is_pushed_and_the_topics_have_them(
    real_kafka: str, tmp_path: Path
) -> None:
    rows = push.measure(real_kafka, tmp_path, 5, 3000, rounds=1)  # raises where a count is not right
    assert [(row["server"], row["batch"], row["events"]) for row in rows] == [
        (name, batch, events) for batch, events in ((500, 3000), (1, 100)) for name in (push.OURS, push.USUAL)
    ]
