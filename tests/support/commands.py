"""Commands of `watershed` in a folder of their own, and the processes that they leave."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sandbox.processes import pid_runs
from tests.support.system import ROOT

NEEDS_PROC = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes in /proc")


class Commands:
    """`watershed` in a folder of its own, with nothing set."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("WATERSHED_")}
        self.environment["PYTHONPATH"] = str(ROOT)
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", *arguments]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        child = subprocess.Popen(command, cwd=self.folder, env=self.environment, text=True, **pipes)
        self.started.append(child)
        return child

    def run(self, *arguments: str, timeout_s: float = 280) -> tuple[int, str, str]:
        """(exit code, standard output, standard error)"""
        child = self.start(*arguments)
        out, err = child.communicate(timeout=timeout_s)
        return child.returncode, out, err

    def processes(self, *words: str) -> list[int]:
        """Processes that have our folder in their environment or command, and these words in their command."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) in (os.getpid(), *(c.pid for c in self.started)):
                continue
            try:
                command, environment = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
            mine = str(self.folder).encode()
            if (
                (mine in command or mine in environment)
                and all(w.encode() in command for w in words)
                and pid_runs(int(entry.name))
            ):
                found.append(int(entry.name))
        return found
