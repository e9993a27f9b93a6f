"""Child processes with a log each: started, awaited, stopped by process id.

Invariant: started = running ∧ ready. `Child.await_ready` returns only when the condition holds, and raises, quoting the
end of the log, when the process ended or the limit passed first; no caller sleeps and hopes.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from tenacity import (
    RetryError,
    Retrying,
    retry_if_exception_type,
    retry_if_result,
    stop_after_attempt,
    stop_after_delay,
    wait_exponential,
)

from pipeline.base.errors import WatershedError

LOOPBACK = "127.0.0.1"
PORT_TAKEN_MARKS = ("address already in use", "could not bind", "bindexception", "eaddrinuse", "addrinuse")
STARTS_ON_OTHER_PORTS = 5


class ServerError(WatershedError):
    """A server of the sandbox cannot be started or stopped; the message is one clear line, then the end of its log."""


class PortTakenError(ServerError):
    """Somebody bound the port between its choice and its use: start again on another one."""


def free_ports(count: int) -> list[int]:
    """Choose `count` different TCP ports that are free on 127.0.0.1 now.

    Nothing reserves them: another process may bind one first, so a caller must be ready for `PortTakenError`.
    """
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) for _ in range(count)]
        for one in sockets:
            one.bind((LOOPBACK, 0))
        return [int(one.getsockname()[1]) for one in sockets]


def port_answers(port: int, timeout_s: float = 1.0) -> bool:
    """True when something accepts TCP connections on 127.0.0.1:`port` now."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=timeout_s):
            return True
    except OSError:
        return False


def wait_until(condition: Callable[[], bool], limit_s: float, *, slowest_poll_s: float = 0.1) -> bool:
    """Poll `condition` (first at once, then every 5 ms to `slowest_poll_s`) until it is true; False after `limit_s`.

    What the condition raises goes to the caller at once: it ends the wait.
    """
    attempts = Retrying(
        retry=retry_if_result(lambda holds: not holds),
        wait=wait_exponential(multiplier=0.005, max=slowest_poll_s),
        stop=stop_after_delay(limit_s),
    )
    try:
        return bool(attempts(condition))
    except RetryError:
        return False


def tail(log: Path, lines: int = 15, from_byte: int = 0) -> str:
    """The last `lines` lines of `log` that are not blank, from `from_byte` on; empty if there is no such file."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(from_byte, size - 256 * 1024))
            text = file.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join([line.rstrip() for line in text.splitlines() if line.strip()][-lines:])


def quote_log(log: Path, from_byte: int = 0) -> str:
    """The end of `log`, ready to follow an error's first line."""
    text = tail(log, from_byte=from_byte)
    if not text:
        return f"Its log {log} is empty."
    return "\n".join([f"The end of its log {log}:", *(f"  {line}" for line in text.splitlines())])


def need_program(name: str, what_for: str, remedy: str) -> str:
    """The path of the program `name` in PATH; raises ServerError with the remedy when it is not there."""
    found = shutil.which(name)
    if found is None:
        raise ServerError(f"{what_for} needs the program '{name}', which is not in PATH: {remedy}.")
    return found


def pid_runs(pid: int) -> bool:
    """True when a process `pid` runs; one that has ended and waits for its parent to notice (a zombie) does not."""
    return pid_exists(pid) and not _is_zombie(pid)


def pid_exists(pid: int) -> bool:
    """True when there is a process `pid`, running or zombie; one of our own children that has ended is reaped here."""
    with contextlib.suppress(ChildProcessError):
        if os.waitpid(pid, os.WNOHANG)[0] == pid:
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _is_zombie(pid: int) -> bool:
    """Ended, but not yet reaped by a parent that is not us; where there is no /proc that cannot be told."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] == "Z"


def stop_pid(pid: int, *, first: signal.Signals = signal.SIGTERM, limit_s: float = 20.0) -> bool:
    """End the process `pid`: `first`, then SIGKILL after `limit_s`; returns whether the first signal was enough.

    A process that has already ended is success. Do not call it with a pid read from a file without a check that the
    process is the one you mean: process ids are reused.
    """
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, first)
    if wait_until(lambda: not pid_runs(pid), limit_s):
        return True
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    if not wait_until(lambda: not pid_runs(pid), 10.0):
        raise ServerError(f"process {pid} is still there 10 s after SIGKILL: look at it with 'ps -o stat,wchan {pid}'.")
    return False


class Child:
    """A process of ours: its own session (Ctrl-C in the terminal does not reach it), its output appended to `log`.

    `user` is the system user to run as; only root can name one. `from_byte` is where this run's part of the log begins.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        *,
        folder: Path,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
    ) -> None:
        self.name, self.log = name, log
        output: IO[bytes]
        with log.open("ab") as output:
            self.from_byte = output.tell()
            try:
                self._popen = subprocess.Popen(
                    list(command),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd=folder,
                    env=None if env is None else dict(env),
                    start_new_session=True,
                    user=user,
                    group=None if user is None else pwd.getpwnam(user).pw_gid,
                    extra_groups=None if user is None else [],
                )
            except OSError as error:
                raise ServerError(f"{name} cannot be started ({command[0]}): {error}.") from error

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def runs(self) -> bool:
        return self._popen.poll() is None

    @property
    def returncode(self) -> int | None:
        """Exit code of the process (negative: the signal that ended it), or None while it runs."""
        return self._popen.poll()

    def log_text(self) -> str:
        """Text that this run has written into its log so far (at most the last 256 KiB)."""
        return tail(self.log, lines=10_000, from_byte=self.from_byte)

    def await_ready(self, ready: Callable[[], bool], limit_s: float) -> None:
        """Wait until `ready()`; raises PortTakenError or ServerError, with the end of the log, if the process ends
        first or `limit_s` passes. The process is not stopped here: that is the caller's `finally`.
        """
        if wait_until(lambda: not self.runs or ready(), limit_s) and self.runs:
            return
        if self.runs:
            raise ServerError(f"{self.name} was not ready within {limit_s:g} s. {quote_log(self.log, self.from_byte)}")
        written = self.log_text().lower()
        kind = PortTakenError if any(mark in written for mark in PORT_TAKEN_MARKS) else ServerError
        raise kind(
            f"{self.name} ended with code {self._popen.returncode} before it was ready. "
            f"{quote_log(self.log, self.from_byte)}"
        )

    def await_end(self, limit_s: float) -> None:
        """Wait until it has ended (see `returncode`); raises ServerError after `limit_s`, and does not stop it."""
        try:
            self._popen.wait(limit_s)
        except subprocess.TimeoutExpired as error:
            raise ServerError(
                f"{self.name} did not end within {limit_s:g} s. {quote_log(self.log, self.from_byte)}"
            ) from error

    def stop(self, *, first: signal.Signals = signal.SIGTERM, limit_s: float = 20.0) -> None:
        """`first`, then SIGKILL after `limit_s`; returns when the process has ended."""
        if self.runs:
            self._popen.send_signal(first)
            try:
                self._popen.wait(limit_s)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """SIGKILL, for crash tests; returns when the process has ended."""
        if self.runs:
            self._popen.kill()
        self._popen.wait(10.0)


class Server(ABC):
    """Abilities of every server here. As a context manager: started on entry, stopped on exit unless `keep`.

    One that is not kept is also stopped when this interpreter exits in good order; `kill -9` of the starter leaves it.
    """

    def __init__(self, folder: Path | str, *, keep: bool = False) -> None:
        self.folder = Path(folder).expanduser().resolve()
        self.keep = keep
        self._starter_pid = -1

    def start(self) -> Self:
        """Start it and return when it answers; raises ServerError. A running one is left as it is."""
        if not self.runs:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ServerError(f"the folder {self.folder} cannot be made: {error.strerror}.") from error
            self._start()
            self._starter_pid = os.getpid()
            if not self.keep:
                atexit.register(self._stop_at_exit)
        return self

    def stop(self) -> None:
        """Stop it in good order and return when it has ended; nothing happens if it does not run."""
        atexit.unregister(self._stop_at_exit)
        self._stop()

    def restart(self) -> Self:
        """Stop and start on the same port and data."""
        self.stop()
        return self.start()

    @property
    @abstractmethod
    def runs(self) -> bool:
        """True when the process that this object started, or attached to, runs now."""

    @abstractmethod
    def _start(self) -> None: ...

    @abstractmethod
    def _stop(self) -> None: ...

    def _stop_at_exit(self) -> None:
        if os.getpid() == self._starter_pid:  # a forked worker inherits this hook, not the server
            self._stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if not self.keep:
            self.stop()


def start_on_free_ports(count: int, start: Callable[[list[int]], Child]) -> Child:
    """Call `start(ports)` with free ports, and again with others when it raises PortTakenError (5 times in all)."""
    attempts = Retrying(
        retry=retry_if_exception_type(PortTakenError), stop=stop_after_attempt(STARTS_ON_OTHER_PORTS), reraise=True
    )
    return attempts(lambda: start(free_ports(count)))
