"""Compiled loops: Numba over NumPy arrays, no Python objects, the GIL released. Bump VERSION when one changes what it computes.

    `from pipeline.kernels import reduce` loads nothing: Numba is imported when a kernel is first asked for

Half of the commands never call one, and Numba takes longer to import than they take.
"""

from importlib import import_module
from typing import Any

VERSION = 1
MODULES = (
    *(
        "avro",
        "ascii",
        "elements",
        "hashing",
        "json",
        "log_time",
        "outgoing",
        "protobuf",
        "records",
        "reduce",
        "sketches",
        "splitting",
        "tables",
        "texts",
        "times",
    ),
    *("tokens", "validity", "wide"),
)


class _Later:
    """A module of kernels that is imported when something of it is asked for; by any thread, since imports are locked."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        found = getattr(import_module(self._name), attribute)
        self.__dict__[attribute] = found
        return found


def __getattr__(name: str) -> Any:
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _Later(f"{__name__}.{name}")
