"""Reading ahead and writing behind change nothing but the time: the same items, the same calls in the same order, the same errors."""

import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext

import pytest

from tasks.executors import Behind, OnTheSide, Stopped, ahead, in_one_thread, side_by_side


def numbers(count: int, seen: list[str]) -> Iterator[int]:
    for n in range(count):
        seen.append(threading.current_thread().name)
        yield n


@pytest.mark.parametrize("count", [0, 1, 2, 100])
def test_what_is_read_ahead_is_the_same(count: int) -> None:
    seen: list[str] = []
    assert list(ahead(numbers(count, seen))) == list(range(count))
    assert all(name.startswith("ahead") for name in seen), "it was read in the caller's thread"


def test_an_error_of_what_is_read_comes_out_after_what_came_before_it() -> None:
    def fails() -> Iterator[int]:
        yield 1
        raise KeyError("broken")

    items = ahead(fails())
    assert next(items) == 1
    with pytest.raises(KeyError, match="broken"):
        next(items)


def test_a_caller_may_stop_early_and_what_it_read_from_is_closed() -> None:
    closed = threading.Event()

    def endless() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    items = ahead(endless())
    next(items)
    items.close()  # type: ignore[attr-defined]
    del items
    assert closed.wait(10)
    assert not any(thread.name.startswith("ahead") for thread in threading.enumerate())


def test_calls_are_made_behind_in_their_order_and_all_of_them() -> None:
    made: list[tuple[int, str]] = []
    with Behind() as behind:
        for n in range(50):
            behind.call(lambda n=n: made.append((n, threading.current_thread().name)))  # type: ignore[misc]
    assert [n for n, _ in made] == list(range(50))
    assert {name for _, name in made} == {"behind_0"}


def test_a_caller_is_held_up_by_what_is_slower() -> None:
    going_on, running = threading.Event(), threading.Event()
    started: list[int] = []

    def slow() -> None:
        running.set()
        going_on.wait(10)

    def caller() -> None:
        with Behind() as behind:
            for n in range(5):
                started.append(n)
                behind.call(slow)

    thread = threading.Thread(target=caller)
    thread.start()
    assert running.wait(10)
    thread.join(0.2)
    assert thread.is_alive() and len(started) <= 3, "it went on though one call ran and one waited"
    going_on.set()
    thread.join(10)
    assert started == list(range(5))


def test_the_error_of_a_call_comes_out_in_the_caller_and_later_calls_are_not_made() -> None:
    made: list[int] = []

    def call(n: int) -> None:
        if n == 1:
            raise OSError("disk full")
        made.append(n)

    with pytest.raises(OSError, match="disk full"), Behind() as behind:
        for n in range(10):
            behind.call(lambda n=n: call(n))  # type: ignore[misc]
    assert 0 in made and 9 not in made


def test_in_one_thread_nothing_leaves_the_callers() -> None:
    seen: list[str] = []
    mine = threading.current_thread().name
    with in_one_thread():
        assert list(ahead(numbers(3, seen))) == [0, 1, 2]
        with Behind() as behind:
            behind.call(lambda: seen.append(threading.current_thread().name))
    assert seen == [mine] * 4


@pytest.mark.parametrize("at_once", [1, 2, 3, 9])
def test_mine_and_the_others_are_done_once_each_and_no_more_than_so_many_at_a_time(at_once: int) -> None:
    lock, now, most, done = threading.Lock(), 0, 0, list[int]()

    def work(partition: int, go_on: Callable[[], None]) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        go_on()
        with lock:
            now -= 1
            done.append(partition)

    side_by_side(3, [0, 1, 2, 4, 5], at_once, work)
    assert sorted(done) == ([3] if at_once == 1 else [0, 1, 2, 3, 4, 5])
    assert most <= at_once


def test_an_error_of_anothers_is_left_to_its_own_task() -> None:
    done: list[int] = []

    def work(partition: int, go_on: Callable[[], None]) -> None:
        if partition == 1:
            raise OSError("disk full")
        done.append(partition)

    side_by_side(0, [1, 2], 2, work)
    assert sorted(done) == [0, 2]


def test_when_mine_fails_the_others_are_told_to_stop() -> None:
    begun, stopped = threading.Event(), threading.Event()

    def work(partition: int, go_on: Callable[[], None]) -> None:
        if partition == 0:
            assert begun.wait(10)
            raise OSError("disk full")
        begun.set()
        try:
            while True:
                go_on()
        except Stopped:
            stopped.set()
            raise

    with pytest.raises(OSError, match="disk full"):
        side_by_side(0, [1, 2], 2, work)
    assert stopped.is_set()


def test_in_one_thread_only_mine_is_done() -> None:
    done: list[int] = []
    with in_one_thread():
        side_by_side(3, [0, 1], 4, lambda partition, go_on: done.append(partition))
    assert done == [3]


@pytest.mark.parametrize("one_thread", [False, True])
def test_what_fails_on_the_side_ends_what_is_done_there_and_nothing_else(one_thread: bool) -> None:
    made: list[int] = []

    def third(n: int) -> None:
        if n == 3:
            raise OSError("disk full")
        made.append(n)

    with in_one_thread() if one_thread else nullcontext(), OnTheSide() as side:
        for n in range(10):
            side.call(lambda n=n: third(n))  # type: ignore[misc]
    assert made == [0, 1, 2]


def test_nothing_is_done_on_the_side_after_it_was_given_up() -> None:
    made: list[int] = []
    with OnTheSide() as side:
        side.give_up()
        side.call(lambda: made.append(1))
    assert made == []
