"""The display's view of the serving layer, looked at again and again beside the story.

what is shown = what Postgres and Kafka answered at the last look        an error of the looking is raised in the story's own thread
"""

import logging
import threading
from collections.abc import Callable

from pipeline.definition.view import View
from pipeline.log.kafka.log import KafkaLog
from pipeline.log.log import Unreachable
from sandbox.display import Display
from sandbox.scene import Seen
from sandbox.services import Place
from serving.answers import by_layer
from serving.postgres.connection import StoreUnavailable, engine

LOOK_EVERY_S = 0.5


class Watcher(threading.Thread):
    """Looks at a view of each topic again and again, for the display. As a context manager: looks until its end."""

    def __init__(self, place: Place, weather: View, flights: View, display: Display) -> None:
        super().__init__(name="watcher", daemon=True)
        self.weather, self.flights, self.display = weather, flights, display
        self.engine = engine(place.postgres, application_name="watershed demo display")
        self.log = KafkaLog(place.kafka)
        self._over = threading.Event()
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self._over.wait(LOOK_EVERY_S):
                self._look()
        except Exception as error:  # handed to the story's thread by check()
            self._error = error

    def _look(self) -> None:
        try:
            self.display.see(self._seen(self.weather), self._seen(self.flights))
        except (StoreUnavailable, Unreachable) as error:
            logging.getLogger("demo").warning("looking again: %s", error)

    def _seen(self, view: View) -> Seen:
        found = by_layer(self.engine, view, limit=100_000)
        return Seen(found, self.log.end_offsets(view.source.topic))

    def check(self) -> None:
        """Raise what ended the looking."""
        if self._error is not None:
            raise self._error

    def pause(self, check: Callable[[], None]) -> None:
        """Let a moment pass between two looks at something else that runs."""
        check()
        self._over.wait(LOOK_EVERY_S / 3)

    def __enter__(self) -> "Watcher":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join(timeout=10)
        self.log.close()
        self.engine.dispose()
