"""A night's last line counts its records, in a folder without a luigi.cfg too, and nothing of Luigi's debugging drowns it."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest

from sandbox.weather import encode, readings
from tests.support.system import ROOT, System

LINE = (
    r"night 2013-01-01, cut 1: 123 records in: 100 accepted, 20 duplicates, 2 rejected, 1 tombstones;"
    r" hourly_weather, daily_weather; \d+\.\d s"
)


@pytest.mark.slow
def test_a_night_ends_with_a_line_that_accounts_for_every_record(system: System) -> None:
    system.run("init", "--partitions", "2")
    events = [encode(r) for r in readings()[:100]]
    sent: list[tuple[int, bytes | None, bytes | None]] = [(n % 2, e.key, e.value) for n, e in enumerate(events)]
    sent += [*sent[:20], (0, b"JFK", b"{"), (1, b"JFK", b"[]"), (0, b"JFK", None)]
    system.produce(sent)
    said = system.night("2013-01-01").stderr.splitlines()
    assert len([line for line in said if re.search(LINE, line)]) == 1, said
    assert not [line for line in said if "DEBUG" in line], "as Luigi does by itself where no luigi.cfg says otherwise"
    assert len(said) < 90, f"{len(said)} lines"


def test_the_shipped_luigi_cfg_is_read_without_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    from luigi.configuration.cfg_parser import LuigiConfigParser
    from luigi.interface import core

    monkeypatch.setattr(LuigiConfigParser, "_instance", None)
    monkeypatch.setattr(LuigiConfigParser, "_config_paths", [str(Path(ROOT) / "luigi.cfg")])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert core().scheduler_host == "127.0.0.1"
