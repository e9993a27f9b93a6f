"""Where a run's time went, printed at its end.

    wall = computing + commands + waiting        of each test; what servers and other shared fixtures take to start is kept apart

computing: processor time of the test's process. commands: that of the processes it started and has awaited. waiting: what is left, for
servers, leases and conditions, and for a processor when there are more who want one than there are. A server that serves the whole run
is awaited at the end, so its processor time is in `servers`.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support import forking

SHOWN_AFTER_S = 60.0
MOST = 20


@dataclass
class Spent:
    """Seconds."""

    wall_s: float = 0.0
    own_s: float = 0.0
    children_s: float = 0.0
    tests: int = 0

    @property
    def waiting_s(self) -> float:
        return max(0.0, self.wall_s - self.own_s - self.children_s)

    def add(self, other: Spent, sign: int = 1) -> None:
        self.wall_s += sign * other.wall_s
        self.own_s += sign * other.own_s
        self.children_s += sign * other.children_s
        self.tests += sign * other.tests

    @classmethod
    def now(cls) -> Spent:
        own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
        return cls(
            time.monotonic(), own.ru_utime + own.ru_stime, children.ru_utime + children.ru_stime + forking.spent_s
        )

    @classmethod
    def since(cls, before: Spent) -> Spent:
        found = cls.now()
        found.add(before, -1)
        return found


class Budget:
    """A plugin of pytest; in a process of pytest-xdist it hands its figures to the one that has the terminal."""

    def __init__(self) -> None:
        self.began = Spent.now()
        self.tests: dict[str, Spent] = {}
        self.shared: dict[str, Spent] = defaultdict(Spent)  # by fixture, and "servers"
        self.compiled: list[tuple[str, float]] = []
        self._aside = Spent()  # of the test that runs, what counts as shared

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        before, self._aside = Spent.now(), Spent()
        result = yield
        found = Spent.since(before)
        found.add(self._aside, -1)
        found.tests = 1
        self.tests.setdefault(item.nodeid, Spent()).add(found)
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Generator[None, Any, Any]:
        if fixturedef.scope not in ("session", "package"):
            return (yield)
        before, aside = Spent.now(), Spent()
        aside.add(self._aside)
        result = yield
        found = Spent.since(before)  # with the shared fixtures that it needs itself, which stand for themselves
        found.add(self._aside, -1)
        found.add(aside)
        self.shared[fixturedef.argname].add(found)
        self._aside.add(found)
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, Any, Any]:
        if nextitem is not None:
            return (yield)
        before = Spent.now()  # the last test of a process: its teardown stops the servers
        result = yield
        found = Spent.since(before)
        self.shared["servers"].add(found)
        self._aside.add(found)
        return result

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if (compiling := sys.modules.get("pipeline.kernels.compiling")) is not None:
            self.compiled += [(one.title, one.compiled_s) for one in compiling.KERNELS if one.compiled_s]
        if (output := getattr(session.config, "workeroutput", None)) is not None:
            output["budget"] = {
                "tests": {name: vars(spent) for name, spent in self.tests.items()},
                "shared": {name: vars(spent) for name, spent in self.shared.items()},
                "compiled": self.compiled,
            }

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        found = getattr(node, "workeroutput", {}).get("budget", {})
        for name, spent in found.get("tests", {}).items():
            self.tests.setdefault(name, Spent()).add(Spent(**spent))
        for name, spent in found.get("shared", {}).items():
            self.shared[name].add(Spent(**spent))
        self.compiled += [(title, seconds) for title, seconds in found.get("compiled", [])]

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        took_s = Spent.since(self.began).wall_s
        if took_s > SHOWN_AFTER_S or os.environ.get("CI", "").lower() == "true":
            terminalreporter.section("where the time went (seconds)")
            terminalreporter.write_line("\n".join(self.lines(took_s)))

    def lines(self, took_s: float) -> list[str]:
        """The whole, then by shared fixture, file and test."""
        whole, shared = total(self.tests.values()), total(self.shared.values())
        compiled_s = sum(seconds for _, seconds in self.compiled)
        largest = ", ".join(
            f"{title} {seconds:.1f}" for title, seconds in sorted(self.compiled, key=lambda one: -one[1])[:5]
        )
        files: dict[str, Spent] = defaultdict(Spent)
        for name, spent in self.tests.items():
            files[name.partition("::")[0]].add(spent)
        return [
            f"{took_s:.0f} on the clock: computing {whole.own_s:.0f}, commands {whole.children_s:.0f}, waiting {whole.waiting_s:.0f};"
            f" servers and shared fixtures {shared.wall_s:.0f}, processor {shared.own_s + shared.children_s:.0f};"
            f" compiling kernels in tests' own processes {compiled_s:.0f}{f' ({largest})' if largest else ''}",
            *table("shared fixtures", self.shared),
            *table("files", files),
            *table("tests", self.tests),
        ]


def total(spent: Iterable[Spent]) -> Spent:
    """The sum."""
    found = Spent()
    for one in spent:
        found.add(one)
    return found


def table(title: str, spent: dict[str, Spent]) -> list[str]:
    """A header and the MOST that took longest."""
    rows = sorted(spent.items(), key=lambda item: -item[1].wall_s)[:MOST]
    header = f"{'wall':>8}{'computing':>11}{'commands':>10}{'waiting':>9}{'tests':>7}  {title}"
    return [
        "",
        header,
        *(
            f"{s.wall_s:8.1f}{s.own_s:11.1f}{s.children_s:10.1f}{s.waiting_s:9.1f}{s.tests:7}  {name}"
            for name, s in rows
        ),
    ]
