"""Executors: where the work of a night is done. A night is handed one, and asks it for all that may be done at the same time.

    list(executor.read_ahead(items)) == list(items)
    background calls: made in their order, one at a time, and all of them before close() returns
    run_partitions:   the work on `mine` is done, and its error raised; what was done of the others is done
    compute(calls)    == [call() for call in calls], in their order

With Inline everything happens one after the other in the caller's thread. With Threads other threads help: what they do lets go of the
interpreter (sockets, Parquet, compression, compiled kernels). Whichever it is, the results are the same, and no setting of Dask's
decides: a night is given its executor.
"""

import logging
import multiprocessing
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

T = TypeVar("T")
Call = Callable[[], T]
Work = Callable[[int, Callable[[], None]], object]  # (partition, raise Cancelled if it is in vain)
END: Any = object()
LOG = logging.getLogger("luigi-interface")


class Cancelled(Exception):
    """The partition's task that asked for this work as well has failed."""


class BackgroundCalls:
    """Calls made in another thread, one after the other; at most one waits, so that a caller who is faster is held up.

    Without a pool a call is made at once. Close it before you use what the calls have made: the usual mistake is to look before.
    """

    def __init__(self, pool: ThreadPoolExecutor | None) -> None:
        self._pool = pool
        self._under_way: list[Future[None]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.cancel()

    def close(self) -> None:
        """Wait until all calls are made; the error of one comes out here."""
        if self._pool is not None:
            self._pool.shutdown()
            self._settle(0)

    def cancel(self) -> None:
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


class BestEffortCalls(BackgroundCalls):
    """Background calls that the caller can do without: after the first error, which is logged, no more are made."""

    def __init__(self, pool: ThreadPoolExecutor | None) -> None:
        super().__init__(pool)
        self._failed = False

    def call(self, action: Callable[[], object]) -> None:
        if not self._failed:
            super().call(lambda: self._try(action))

    def _try(self, action: Callable[[], object]) -> None:
        if self._failed:
            return
        try:
            action()
        except Exception as error:
            LOG.info("what was done on the way is left to its own task: %s", error)
            self._failed = True


class Executor(Protocol):
    """Executor of the work of a night."""

    def read_ahead(self, items: Iterable[T]) -> Iterator[T]:
        """The same items; the next one may be made while the caller has one. At most two are held at a time."""

    def background_calls(self) -> BackgroundCalls:
        """Calls made behind the caller, such as writing; an error comes out in the caller."""

    def best_effort_calls(self) -> BestEffortCalls:
        """Calls made behind the caller that may fail."""

    def run_partitions(self, mine: int, others: Iterable[int], at_once: int, work: Work) -> None:
        """Do work(mine, ...), and that of the others too if they may be done meanwhile, `at_once` at a time.

        The others have tasks of their own, which will find it done, so an error of theirs is logged and not raised. `work` calls what
        it is given now and then: it raises Cancelled when `mine` has failed.
        """

    def compute(self, calls: Sequence[Call[T]]) -> list[T]:
        """The results of the calls, which depend on nothing of one another's; an error of one is raised."""


@dataclass(frozen=True)
class Threads:
    """Threads of this process. `dask` computes the folds: "threads", or a Client of a cluster that reaches the same lake."""

    dask: Any = "threads"

    def read_ahead(self, items: Iterable[T]) -> Iterator[T]:
        iterator = iter(items)
        with ThreadPoolExecutor(1, "read-ahead") as pool:
            coming = pool.submit(next, iterator, END)
            while (item := coming.result()) is not END:
                coming = pool.submit(next, iterator, END)
                yield item

    def background_calls(self) -> BackgroundCalls:
        return BackgroundCalls(ThreadPoolExecutor(1, "background"))

    def best_effort_calls(self) -> BestEffortCalls:
        return BestEffortCalls(ThreadPoolExecutor(1, "best-effort"))

    def run_partitions(self, mine: int, others: Iterable[int], at_once: int, work: Work) -> None:
        if at_once == 1 or multiprocessing.parent_process() is not None:
            # Luigi's --workers are processes: they are what helps then
            work(mine, lambda: None)
            return
        todo, failed = deque(others), threading.Event()

        def go_on() -> None:
            if failed.is_set():
                raise Cancelled

        def do_others() -> None:
            while todo and not failed.is_set():
                try:
                    one = todo.popleft()
                except IndexError:  # another thread was faster
                    return
                try:
                    work(one, go_on)
                except Exception as error:
                    LOG.info("partition %s, done beside partition %s, will be tried again: %s", one, mine, error)

        with ThreadPoolExecutor(at_once - 1, "partition") as pool:
            helpers = [pool.submit(do_others) for _ in range(at_once - 1)]
            try:
                work(mine, lambda: None)
                do_others()
            except BaseException:
                failed.set()
                raise
            for helper in helpers:
                helper.result()

    def compute(self, calls: Sequence[Call[T]]) -> list[T]:
        from dask.base import compute  # half of the commands open a night and compute nothing
        from dask.delayed import delayed

        return list(compute(*(delayed(call, pure=False)() for call in calls), scheduler=self.dask)) if calls else []


@dataclass(frozen=True)
class Inline:
    """The caller's thread, one thing after the other: deterministic, as the simulation needs it. Partitions are left to their tasks."""

    def read_ahead(self, items: Iterable[T]) -> Iterator[T]:
        yield from items

    def background_calls(self) -> BackgroundCalls:
        return BackgroundCalls(None)

    def best_effort_calls(self) -> BestEffortCalls:
        return BestEffortCalls(None)

    def run_partitions(self, mine: int, others: Iterable[int], at_once: int, work: Work) -> None:
        work(mine, lambda: None)

    def compute(self, calls: Sequence[Call[T]]) -> list[T]:
        return [call() for call in calls]


__all__ = ["BackgroundCalls", "BestEffortCalls", "Cancelled", "Executor", "Inline", "Threads"]
