"""Executors of a worker's calls: the caller at once, a pool, a thread for each, or a simulation when it likes.

submit(call).result() = call()        an Exception of the call comes out of result(), in the thread that asks for it
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol, TypeVar

T = TypeVar("T")


class Executor(Protocol):
    """Makes a call now or later, and at the latest when its result is asked for. A ThreadPoolExecutor is one."""

    def submit(self, call: Callable[[], T], /) -> Future[T]: ...


class InCaller:
    """Makes each call at once, in the thread of the caller."""

    def submit(self, call: Callable[[], T], /) -> Future[T]:
        """A future that is done."""
        made: Future[T] = Future()
        answer(made, call)
        return made


class InThreads:
    """Makes each call in a thread of its own that keeps no process from ending: for calls that may hang and that nobody needs."""

    def __init__(self, name: str) -> None:
        self.name = name

    def submit(self, call: Callable[[], T], /) -> Future[T]:
        """A future that is done when the thread ends."""
        made: Future[T] = Future()
        threading.Thread(target=answer, args=(made, call), name=self.name, daemon=True).start()
        return made


def answer(future: Future[T], call: Callable[[], T]) -> None:
    """Make the call and set the future's result, or its exception."""
    try:
        future.set_result(call())
    except Exception as error:  # comes out where the result is asked for
        future.set_exception(error)
