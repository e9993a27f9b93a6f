"""`watershed serve` for a test: a process on a free port, and requests to it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import requests

from tests.support.system import System, wait_for


class Served:
    """A server of a system's views; its log is in the system's folder."""

    def __init__(self, system: System, *arguments: str, wait: bool = True, **environment: str) -> None:
        self._log = Path(system.folder) / "serve.log"
        self._seen = len(self.log)
        command = [sys.executable, "-m", "watershed", "serve", "--port", "0", *arguments]
        with self._log.open("a") as log:
            self.process: subprocess.Popen[str] = system._start(command, environment, stderr=log, stdout=log)
        wait_for(lambda: self._address() or self.process.poll() is not None, "the server listens", 120)
        found = self._address()
        assert found, self.log
        self.url = found
        self.session = requests.Session()
        if wait:
            wait_for(lambda: self.get("/readyz").status_code == 200, "the server is ready")

    @property
    def log(self) -> str:
        """All that it has said."""
        return self._log.read_text() if self._log.exists() else ""

    def _address(self) -> str:
        found = re.search(r"serving (http://\S+)/docs", self.log[self._seen :])
        return found[1] if found else ""

    def get(self, path: str, **more: Any) -> requests.Response:
        """GET."""
        return self.session.get(self.url + path, timeout=60, **more)

    def push(self, topic: str, body: Any, kind: str = "application/json", **headers: str) -> requests.Response:
        """POST to /api/events/{topic}."""
        given = {"Content-Type": kind, **{name.replace("_", "-"): value for name, value in headers.items()}}
        return self.session.post(f"{self.url}/api/events/{topic}", data=body, headers=given, timeout=60)
