"""Fixtures of the sandbox: commands in a folder of their own, with everything stopped at the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import Commands


@pytest.fixture
def commands(crash_folder: Path) -> Iterator[Commands]:
    made = Commands(crash_folder)
    yield made
    for child in made.started:
        if child.poll() is None:
            child.terminate()
            child.communicate(timeout=60)
    if (crash_folder / ".watershed" / "pids.json").exists():
        assert made.run("watershed", "down")[0] == 0
