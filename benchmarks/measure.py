"""One process, measured from outside: wall time, CPU time and peak memory.

    cpu_s = user + system, as the kernel counts it for the process and what it waited for; peak = VmHWM of the process itself

The memory is not the kernel's ru_maxrss: that one begins with what the parent had when it forked.
"""

import atexit
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.base.errors import WatershedError

ROOT = Path(__file__).resolve().parent.parent
LOOK_EVERY_S = 0.02
HIGH_WATER = re.compile(r"VmHWM:\s+(\d+) kB")


class BenchmarkError(WatershedError):
    """A benchmark cannot go on: a process failed, or results differ."""


@dataclass(frozen=True)
class Run:
    """What a process took; times are of time.monotonic(), which all processes of a machine share."""

    started: float
    ended: float
    cpu_s: float
    peak_mib: float
    said: dict[str, Any]

    @property
    def wall_s(self) -> float:
        return self.ended - self.started


class Process:
    """A process that runs; `finish` waits for it. Its output goes to `log`."""

    def __init__(
        self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name, self.log = name, log
        env = {**os.environ, **(environment or {}), "PYTHONPATH": str(ROOT)}
        self.started = time.monotonic()
        with log.open("wb") as output:
            self._popen = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=env,
                start_new_session=True,
            )
        self._peak_kib = 0
        self._run: Run | None = None
        atexit.register(self.kill)  # whatever happens to us, it does not stay

    @property
    def pid(self) -> int:
        return self._popen.pid

    def cpu_s(self) -> float:
        """User and system time so far; 0.0 when it has ended."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def poll(self) -> Run | None:
        """What it took, when it has ended; BenchmarkError when it ended badly."""
        if self._run is not None:
            return self._run
        self._peak_kib = max(self._peak_kib, _high_water_kib(self.pid))
        pid, status, usage = os.wait4(self.pid, os.WNOHANG)
        if pid == 0:
            return None
        self._popen.returncode = code = os.waitstatus_to_exitcode(status)
        ended = time.monotonic()
        atexit.unregister(self.kill)
        text = self.log.read_text(errors="replace")
        if code != 0:
            raise BenchmarkError(f"{self.name} ended with code {code}: {' | '.join(text.splitlines()[-8:])}")
        self._run = Run(self.started, ended, usage.ru_utime + usage.ru_stime, self._peak_kib / 1024, _said(text))
        return self._run

    def finish(self, limit_s: float) -> Run:
        """Wait until it has ended well; killed and BenchmarkError after `limit_s`."""
        until = time.monotonic() + limit_s
        while (run := self.poll()) is None:
            if time.monotonic() > until:
                self.kill()
                raise BenchmarkError(f"{self.name} did not end within {limit_s:g} s; its log is {self.log}")
            time.sleep(LOOK_EVERY_S)
        return run

    def terminate(self, limit_s: float = 60.0) -> Run:
        """SIGTERM, and wait until it has ended well."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGTERM)
        return self.finish(limit_s)

    def kill(self) -> None:
        """SIGKILL, when it still runs."""
        atexit.unregister(self.kill)
        if self._popen.returncode is None:
            self._popen.kill()
            self._popen.wait(10.0)


def python(module: str, *arguments: str, of: str | None = None) -> list[str]:
    """The command `python -m MODULE ARGUMENTS`, in this environment or in that of a peer."""
    return [of or sys.executable, "-m", module, *arguments]


def _high_water_kib(pid: int) -> int:
    try:
        found = HIGH_WATER.search(Path(f"/proc/{pid}/status").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(found[1]) if found else 0


def _said(text: str) -> dict[str, Any]:
    """The last line, when it is an object of JSON."""
    lines = [line for line in text.splitlines() if line.startswith("{")]
    try:
        found = json.loads(lines[-1]) if lines else {}
    except json.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}
