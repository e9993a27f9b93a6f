"""The parts of an origin, read side by side: so many at once, and no more rows in memory than each holds.

items given = Σ over the parts of read(part), each part's in its order        of which part the next ones are, nobody promises
"""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from threading import Condition, Thread
from typing import Generic, TypeVar

from ingestion.origin import Part

T = TypeVar("T")
Read = Callable[[Part], Generator[T, None, None]]


def side_by_side(parts: Sequence[Part], read: Read[T], readers: int) -> Generator[tuple[int, T], None, None]:
    """(number of the part, item) of all parts, at most `readers` of them read at once. The first error of a part ends it.

    `read` is called in threads, and its iterator is used in the same one. Readers that are left when it ends early stop at their next
    item, and nobody waits for them: one may be asleep until its database answers again.
    """
    if min(len(parts), readers) < 2:
        for number, part in enumerate(parts):
            for item in read(part):
                yield number, item
        return
    channel = _Channel[T](parts, readers)
    for _ in range(min(len(parts), readers)):
        Thread(target=channel.fill, args=(read,), name="watershed-load", daemon=True).start()
    try:
        yield from channel
    finally:
        channel.close()


class _Channel(Generic[T]):
    """Between the readers and who uses the rows: each reader waits until what it gave last was taken."""

    def __init__(self, parts: Sequence[Part], room: int) -> None:
        self._changed = Condition()
        self._left = deque(enumerate(parts))
        self._items = deque[tuple[int, T]]()
        self._open_parts, self._room = len(parts), room
        self._error: BaseException | None = None
        self._closed = False

    def fill(self, read: Read[T]) -> None:
        """Read parts until none is left, or nobody wants them."""
        while (mine := self._next()) is not None:
            number, part = mine
            try:
                with closing(read(part)) as items:
                    if not all(self._put(number, item) for item in items):
                        return
            except BaseException as error:  # whatever it is, the load must not wait for the rest of this part
                self._fail(error)
                return
            self._done()

    def _next(self) -> tuple[int, Part] | None:
        with self._changed:
            return self._left.popleft() if self._left and not self._closed else None

    def _put(self, number: int, item: T) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._items) < self._room)
            if not self._closed:
                self._items.append((number, item))
                self._changed.notify_all()
            return not self._closed

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    def _done(self) -> None:
        with self._changed:
            self._open_parts -= 1
            self._changed.notify_all()

    def __iter__(self) -> Generator[tuple[int, T], None, None]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._error is not None or not self._open_parts)
                if self._error is not None:
                    raise self._error
                if not self._items:
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item

    def close(self) -> None:
        """Nothing more is wanted."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()


__all__ = ["side_by_side"]
