"""Work beside the caller's: one thread reads ahead of it, another writes behind it.

    list(ahead(items)) == list(items)        behind: the calls are made in their order, one at a time, and all of them before it closes

What it does beside lets go of the interpreter: sockets, Parquet, compression, compiled kernels. An error comes out in the caller.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import dask.config

T = TypeVar("T")
END: Any = object()


def threads() -> bool:
    """Whether threads may be used: not within in_one_thread()."""
    return str(dask.config.get("scheduler", "threads")) == "threads"


def in_one_thread() -> AbstractContextManager[Any]:
    """Within it everything happens one after the other in the caller's thread: what the simulation needs to be deterministic."""
    return cast(AbstractContextManager[Any], dask.config.set(scheduler="synchronous"))


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

    Close it before you use what the calls have made: the usual mistake is to look at that inside the `with`.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "behind") if threads() else None
        self._under_way: list[Future[None]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._pool is None:
            return
        self._pool.shutdown(cancel_futures=error is not None)
        if error is None:
            self._settle(0)

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
