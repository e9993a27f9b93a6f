"""Parts read side by side: all of each, in its order; no more at once than allowed; an error ends it, and no reader is waited for."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from threading import Barrier, Event, Lock

import pytest

from ingestion.loading.reading import side_by_side
from ingestion.origin import Part
from pipeline.base.errors import OriginAway

PARTS = [Part(str(n)) for n in range(7)]
LONG_S = 30


def items(part: Part) -> Generator[str, None, None]:
    yield from (f"{part.name}.{n}" for n in range(int(part.name)))


@pytest.mark.parametrize("readers", [1, 2, 3, 7, 50])
def test_all_items_of_all_parts_are_given_each_parts_in_its_order(readers: int) -> None:
    found = list(side_by_side(PARTS, items, readers))
    for number, part in enumerate(PARTS):
        assert [item for of, item in found if of == number] == list(items(part))


def test_as_many_parts_are_read_at_once_as_there_are_readers() -> None:
    met = Barrier(3, timeout=LONG_S)

    def read(part: Part) -> Generator[int, None, None]:
        yield met.wait()  # nobody goes on before three are here

    assert len(list(side_by_side(PARTS[:6], read, 3))) == 6


def test_no_reader_runs_ahead_of_who_uses_the_rows() -> None:
    lock, read_rows, taken = Lock(), 0, 0

    def read(part: Part) -> Generator[int, None, None]:
        nonlocal read_rows
        for n in range(100):
            with lock:
                read_rows += 1
                # Two hold one each, two are in between, and one is with the user.
                assert read_rows <= taken + 5
            yield n

    for _ in side_by_side(PARTS[:4], read, 2):
        with lock:
            taken += 1
    assert read_rows == taken == 400


def test_the_error_of_one_part_ends_the_reading_while_another_is_asleep() -> None:
    asleep, over = Event(), Event()

    def read(part: Part) -> Generator[int, None, None]:
        if part.name == "0":
            asleep.set()
            over.wait(LONG_S)
        else:
            asleep.wait(LONG_S)
            yield 1
            raise OriginAway("the database is gone")

    with pytest.raises(OriginAway, match="the database is gone"):
        list(side_by_side(PARTS[:2], read, 2))
    assert not over.is_set()
    over.set()


def test_readers_stop_and_close_what_they_read_when_nobody_wants_more() -> None:
    closed, begun = [Event(), Event()], []

    def read(part: Part) -> Generator[int, None, None]:
        begun.append(part.name)
        try:
            while True:
                yield 1
        finally:
            closed[int(part.name)].set()

    with closing(side_by_side(PARTS, read, 2)) as rows:
        next(rows)
    assert all(event.wait(LONG_S) for event in closed) and sorted(begun) == ["0", "1"]
