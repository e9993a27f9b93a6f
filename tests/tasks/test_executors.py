"""Executors change nothing but the time: the same items, the same calls in the same order, the same errors."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tasks.executors import Cancelled, Executor, Inline, Threads

ROOT = Path(__file__).resolve().parents[2]
THREADS, INLINE = Threads(), Inline()


def numbers(count: int, seen: list[str]) -> Iterator[int]:
    for n in range(count):
        seen.append(threading.current_thread().name)
        yield n


@pytest.mark.parametrize("count", [0, 1, 2, 100])
def test_what_is_read_ahead_is_the_same(count: int) -> None:
    seen: list[str] = []
    assert list(THREADS.read_ahead(numbers(count, seen))) == list(range(count))
    assert all(name.startswith("read-ahead") for name in seen), "it was read in the caller's thread"


def test_an_error_of_what_is_read_comes_out_after_what_came_before_it() -> None:
    def fails() -> Iterator[int]:
        yield 1
        raise KeyError("broken")

    items = THREADS.read_ahead(fails())
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

    items = THREADS.read_ahead(endless())
    next(items)
    items.close()  # type: ignore[attr-defined]
    del items
    assert closed.wait(10)
    assert not any(thread.name.startswith("read-ahead") for thread in threading.enumerate())


def test_calls_are_made_behind_in_their_order_and_all_of_them() -> None:
    made: list[tuple[int, str]] = []
    with THREADS.background_calls() as calls:
        for n in range(50):
            calls.call(lambda n=n: made.append((n, threading.current_thread().name)))  # type: ignore[misc]
    assert [n for n, _ in made] == list(range(50))
    assert {name for _, name in made} == {"background_0"}


def test_a_caller_is_held_up_by_what_is_slower() -> None:
    going_on, running = threading.Event(), threading.Event()
    started: list[int] = []

    def slow() -> None:
        running.set()
        going_on.wait(10)

    def caller() -> None:
        with THREADS.background_calls() as calls:
            for n in range(5):
                started.append(n)
                calls.call(slow)

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

    with pytest.raises(OSError, match="disk full"), THREADS.background_calls() as calls:
        for n in range(10):
            calls.call(lambda n=n: call(n))  # type: ignore[misc]
    assert 0 in made and 9 not in made


def test_inline_nothing_leaves_the_callers_thread() -> None:
    seen: list[str] = []
    mine = threading.current_thread().name
    assert list(INLINE.read_ahead(numbers(3, seen))) == [0, 1, 2]
    with INLINE.background_calls() as calls:
        calls.call(lambda: seen.append(threading.current_thread().name))
    INLINE.compute([lambda: seen.append(threading.current_thread().name)])
    assert seen == [mine] * 5


def test_inline_reads_no_item_before_it_is_asked_for() -> None:
    seen: list[str] = []
    items = iter(INLINE.read_ahead(numbers(3, seen)))
    next(items)
    assert len(seen) == 1


@pytest.mark.parametrize("executor", [THREADS, INLINE], ids=["threads", "inline"])
def test_results_come_in_the_order_of_their_calls_and_an_error_is_raised(executor: Executor) -> None:
    assert executor.compute([]) == []
    assert executor.compute([partial(pow, n, 2) for n in range(40)]) == [n * n for n in range(40)]
    with pytest.raises(ZeroDivisionError):
        executor.compute([partial(pow, 2, 2), partial(divmod, 1, 0)])


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

    THREADS.run_partitions(3, [0, 1, 2, 4, 5], at_once, work)
    assert sorted(done) == ([3] if at_once == 1 else [0, 1, 2, 3, 4, 5])
    assert most <= at_once


def test_an_error_of_anothers_is_left_to_its_own_task() -> None:
    done: list[int] = []

    def work(partition: int, go_on: Callable[[], None]) -> None:
        if partition == 1:
            raise OSError("disk full")
        done.append(partition)

    THREADS.run_partitions(0, [1, 2], 2, work)
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
        except Cancelled:
            stopped.set()
            raise

    with pytest.raises(OSError, match="disk full"):
        THREADS.run_partitions(0, [1, 2], 2, work)
    assert stopped.is_set()


def test_inline_only_mine_is_done() -> None:
    done: list[int] = []
    INLINE.run_partitions(3, [0, 1], 4, lambda partition, go_on: done.append(partition))
    assert done == [3]


@pytest.mark.parametrize("executor", [THREADS, INLINE], ids=["threads", "inline"])
def test_a_best_effort_call_that_fails_ends_those_after_it_and_nothing_else(executor: Executor) -> None:
    made: list[int] = []

    def third(n: int) -> None:
        if n == 3:
            raise OSError("disk full")
        made.append(n)

    with executor.best_effort_calls() as calls:
        for n in range(10):
            calls.call(lambda n=n: third(n))  # type: ignore[misc]
    assert made == [0, 1, 2]


CONCURRENCY = """
import threading
from tasks.night.night import Night

together = threading.Barrier(2, timeout=20)  # passed by two threads at the same time, or broken

def work(partition, go_on):
    together.wait()

executor = Night.__dataclass_fields__["executor"].default_factory()
executor.run_partitions(0, [1], 2, work)
executor.compute([together.wait, together.wait])
names = set()

def read():
    for n in range(3):
        names.add(threading.current_thread().name)
        yield n

list(executor.read_ahead(read()))
with executor.background_calls() as calls:
    calls.call(lambda: names.add(threading.current_thread().name))
assert threading.current_thread().name not in names, names
print("concurrent")
"""


@pytest.mark.parametrize("scheduler", ["synchronous", "single-threaded"])
def test_a_scheduler_of_dasks_in_the_environment_leaves_the_concurrency_of_a_night_on(scheduler: str) -> None:
    """Dask reads its settings from the environment; a night's executor is given to it, and asks neither."""
    environment = os.environ | {"DASK_SCHEDULER": scheduler, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", CONCURRENCY], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (0, "concurrent\n"), done.stderr
