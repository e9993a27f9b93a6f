"""Work beside the caller's: one thread reads ahead of it, another writes behind it, and partitions are done side by side.

    list(ahead(items)) == list(items)        behind: the calls are made in their order, one at a time, and all of them before it closes
    side_by_side: the work on `mine` is done, and its error raised; what was done of the others is done

What it does beside lets go of the interpreter: sockets, Parquet, compression, compiled kernels. An error comes out in the caller.
"""

import logging
import multiprocessing
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import dask.config

T = TypeVar("T")
END: Any = object()
ONE_THREAD = "synchronous"  # Dask's word for it
LOG = logging.getLogger("luigi-interface")


class Stopped(Exception):
    """The task that this was done beside of has ended badly."""


def threads() -> bool:
    """Whether threads may be used: not within in_one_thread()."""
    return str(dask.config.get("scheduler", "threads")) != ONE_THREAD


def in_one_thread() -> AbstractContextManager[Any]:
    """Within it everything happens one after the other in the caller's thread: what the simulation needs to be deterministic."""
    return cast(AbstractContextManager[Any], dask.config.set(scheduler=ONE_THREAD))


def ahead(items: Iterable[T]) -> Iterator[T]:
    """The same items; the next one is made in another thread while the caller has one. At most two are held at a time."""
    if not threads():
        yield from items
        return
    iterator = iter(items)
    with ThreadPoolExecutor(1, "ahead") as pool:
        coming = pool.submit(next, iterator, END)
        while (item := coming.result()) is not END:
            coming = pool.submit(next, iterator, END)
            yield item


class Behind:
    """Makes calls in another thread, one after the other. At most one waits: a caller who is faster is held up.

    Close it before you use what the calls have made: the usual mistake is to look at that before.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "behind") if threads() else None
        self._under_way: list[Future[None]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self.close()
        else:
            self.stop()

    def close(self) -> None:
        """Wait until all calls are made; the error of one comes out here."""
        if self._pool is not None:
            self._pool.shutdown()
            self._settle(0)

    def stop(self) -> None:
        """Make no more calls, and wait for the one that is being made; nothing after close()."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def call(self, action: Callable[[], None]) -> None:
        """Have it called; the error of an earlier call may come out here."""
        if self._pool is None:
            action()
            return
        self._settle(1)
        self._under_way.append(self._pool.submit(action))

    def _settle(self, under_way: int) -> None:
        while len(self._under_way) > under_way:
            self._under_way.pop(0).result()


class OnTheSide(Behind):
    """Makes calls behind the caller that he can do without: after the first error, which is logged, no more are made."""

    def __init__(self) -> None:
        super().__init__()
        self._given_up = False

    def give_up(self) -> None:
        """Make no more calls; a call itself may say so."""
        self._given_up = True

    def call(self, action: Callable[[], object]) -> None:
        if not self._given_up:
            super().call(lambda: self._try(action))

    def _try(self, action: Callable[[], object]) -> None:
        if self._given_up:
            return
        try:
            action()
        except Exception as error:
            LOG.info("what was done on the side is left to its own task: %s", error)
            self._given_up = True


def side_by_side(mine: int, others: Iterable[int], at_once: int, work: Callable[[int, Callable[[], None]], object]) -> None:
    """Do work(mine, ...), and that of the others too, `at_once` at a time: they have tasks of their own, which will find it done.

    `work` calls what it is given now and then: it raises Stopped when it was all in vain. An error of another's is not raised: its own
    task comes to it again. Where Luigi has several processes for its tasks (--workers), they are what is done side by side.
    """
    if at_once == 1 or not threads() or multiprocessing.parent_process() is not None:
        work(mine, lambda: None)
        return
    todo, stop = deque(others), threading.Event()

    def go_on() -> None:
        if stop.is_set():
            raise Stopped

    def do_others() -> None:
        while todo and not stop.is_set():
            try:
                one = todo.popleft()
            except IndexError:  # another thread was faster
                return
            try:
                work(one, go_on)
            except Exception as error:
                LOG.info("partition %s, done beside partition %s, will be tried again: %s", one, mine, error)

    with ThreadPoolExecutor(at_once - 1, "beside") as pool:
        helpers = [pool.submit(do_others) for _ in range(at_once - 1)]
        try:
            work(mine, lambda: None)
            do_others()
        except BaseException:
            stop.set()
            raise
        for helper in helpers:
            helper.result()
