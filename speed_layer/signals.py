"""Told to stop: SIGTERM and SIGINT set one event, from the first moment on; whoever works looks at it.

Invariant: importing this is cheap, so that the handlers stand before the heavy imports begin.
"""

import signal
import threading

STOP = threading.Event()


def listen() -> threading.Event:
    """Install the handlers (main thread only); the event that they set."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: STOP.set())
    return STOP
