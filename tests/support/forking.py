"""Commands as processes of their own that need not import anything: forked from one that has imported it all.

    popen(command, ...) behaves as subprocess.Popen(command, ...)        for `python -m watershed ...` and `python -m luigi ...`

Importing what a command needs takes two to three seconds of a processor, and the tests run hundreds of them. The process that is forked
from has done nothing but import and load kernels: it has no connection, no thread and no view. What is forked is killed, stopped and
awaited as any process is. The first of each command in a test's process is a fresh interpreter all the same, and so is one whose
environment speaks to an interpreter, or to a library that reads it when it is imported. WATERSHED_TESTS_FRESH=1 makes all of them fresh.
"""

from __future__ import annotations

import atexit
import os
import pickle
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

# watershed first: it asks for one heap before pyarrow is there. Not luigi nor tasks: what luigi.cfg says is read when they are imported.
IMPORTED = (
    *(
        "watershed",
        "speed_layer.run",
        "speed_layer.refold",
        "console.commands.status",
        "pandas",
        "pyarrow.parquet",
        "pyarrow.dataset",
    ),
    *("dask", "psutil", "jinja2", "urllib3"),
)
READ_AT_IMPORT = ("PYTHON", "DASK", "LUIGI", "NUMBA", "LD_", "MALLOC", "ARROW", "OMP_", "WATERSHED_KERNEL_CACHE")
LENGTH = struct.Struct("!I")
ROOT = Path(__file__).resolve().parents[2]
spent_s = 0.0  # processor time of what was forked and has ended
_seen: set[str] = set()
_servers: list[Server] = []
_lock = threading.Lock()


def popen(command: Sequence[str], env: Mapping[str, str], **options: Any) -> subprocess.Popen[str]:
    """Start `python -m MODULE ARGUMENTS` with this environment, forked where that comes to the same."""
    assert command[:2] == [sys.executable, "-m"], command
    name = " ".join(command[2:4]) if command[2] == "watershed" else command[2]
    differs = {k for k in {*env, *os.environ} if env.get(k) != os.environ.get(k)} - {"PYTHONPATH"}
    elsewhere = "PYTHONPATH" in env and str(ROOT) not in env["PYTHONPATH"].split(os.pathsep)  # another checkout's code
    fresh = (
        name not in _seen
        or elsewhere
        or any(k.startswith(READ_AT_IMPORT) for k in differs)
        or "WATERSHED_TESTS_FRESH" in os.environ
    )
    _seen.add(name)
    return (subprocess.Popen if fresh else Forked)(list(command), env=dict(env), **options)


class Server:
    """The process that is forked from, and the socket to it; it ends when that is closed, as it is when this process ends."""

    def __init__(self) -> None:
        self.socket, theirs = socket.socketpair()
        environment = {k: v for k, v in os.environ.items() if not k.startswith("WATERSHED_")}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        code = f"from tests.support.forking import serve; serve({theirs.fileno()})"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], pass_fds=[theirs.fileno()], env=environment, stdin=subprocess.DEVNULL
        )
        theirs.close()
        assert _receive(self.socket) == "ready"
        atexit.register(self.stop)

    def stop(self) -> None:
        self.socket.close()
        self.process.wait(timeout=30)

    def fork(self, request: dict[str, Any], files: Sequence[int]) -> int:
        """The process id of what now runs; `files`: its standard input, output and error, and where its end is written to."""
        _send(self.socket, request, files)
        found: int = _receive(self.socket)
        return found


def _server() -> Server:
    with _lock:
        if not _servers:
            _servers.append(Server())
        return _servers[0]


class Forked(subprocess.Popen[str]):
    """A Popen whose process is the child of another one, which tells its end."""

    def _execute_child(self, args: Any, executable: Any, preexec_fn: Any, *rest: Any) -> None:
        _, pass_fds, cwd, env, _, _, _, p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite = rest[:13]
        assert preexec_fn is None and not pass_fds
        self._ends, told = os.pipe()
        self._status: int | None = None
        standard = [given if given != -1 else own for own, given in ((0, p2cread), (1, c2pwrite), (2, errwrite))]
        request = {"module": args[2], "arguments": args[3:], "environment": env, "folder": str(cwd)}
        server = _server()
        try:
            with _lock:
                self.pid = server.fork(request, [*standard, told])
            self._child_created = True
        finally:
            os.close(told)
            self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)  # type: ignore[attr-defined]

    def _told(self, timeout_s: float | None) -> int | None:
        """The status of its end, as waitpid has it; None while it runs."""
        global spent_s
        if self._status is None and select.select([self._ends], [], [], timeout_s)[0]:
            with os.fdopen(self._ends, "rb") as pipe:
                held = pipe.read()
            assert held, f"process {self.pid}: its end was never told, as the process that it was forked from has ended"
            self._status, seconds = pickle.loads(held)
            spent_s += seconds
        return self._status

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        status = self._told(0 if wait_flags == os.WNOHANG else None)
        return (0, 0) if status is None else (self.pid, status)

    def _internal_poll(self, _deadstate: Any = None, **_: Any) -> int | None:
        if self.returncode is None and (status := self._told(0)) is not None:
            self._handle_exitstatus(status)  # type: ignore[attr-defined]
        return self.returncode


# ---- in the process that is forked from
def serve(number: int) -> None:
    """Import, then fork what is asked for until the socket is closed."""
    here = socket.socket(fileno=number)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests
    for name in IMPORTED:
        import_module(name)
    from pipeline.kernels.compiling import needed
    from pipeline.warm_up import ALWAYS

    for one in needed(*ALWAYS):
        one.ready()
    woken, wake = socket.socketpair()
    for end in (woken, wake):
        end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake.fileno())
    _send(here, "ready", [])
    running: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([here, woken], [], [])
        if woken in ready:
            woken.recv(4096)
            _tell_ends(running)
        if here in ready:
            data, files, _, _ = socket.recv_fds(here, LENGTH.size, 8)
            if not data:
                os._exit(0)
            request = pickle.loads(_exactly(here, LENGTH.unpack(data)[0]))
            *standard, told = files
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                for one in (here, woken, wake):
                    one.close()
                for other in (told, *running.values()):
                    os.close(other)
                _become(request, standard)
            running[pid] = told
            for file in standard:
                os.close(file)
            _send(here, pid, [])


def _tell_ends(running: dict[int, int]) -> None:
    """Write how each that has ended did so."""
    while running:
        pid, status, used = os.wait4(-1, os.WNOHANG)
        if pid == 0:
            return
        told = running.pop(pid)
        try:
            os.write(told, pickle.dumps((status, used.ru_utime + used.ru_stime)))
        except BrokenPipeError:
            print(f"process {pid} ended with status {status}, and nobody asks", file=sys.stderr)
        os.close(told)


def _become(request: dict[str, Any], standard: Sequence[int]) -> NoReturn:
    """Be `python -m module arguments`, with an end as an interpreter's."""
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number, file in enumerate(standard):
            os.dup2(file, number)
        for file in standard:
            os.close(file)
        os.environ.clear()
        os.environ.update(request["environment"])
        time.tzset()
        os.chdir(request["folder"])
        sys.path[:0] = [str(Path.cwd()), *filter(None, request["environment"].get("PYTHONPATH", "").split(os.pathsep))]
        sys.argv = [request["module"], *request["arguments"]]
        code = _main(request["module"])
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        os._exit(code)


def _main(module: str) -> int:
    """The exit code of running a module as the main one."""
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return (end.code or 0) & 255
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


# ---- between the two
def _send(to: socket.socket, what: Any, files: Sequence[int]) -> None:
    data = pickle.dumps(what)
    if files:
        socket.send_fds(to, [LENGTH.pack(len(data))], list(files))
        to.sendall(data)
    else:
        to.sendall(LENGTH.pack(len(data)) + data)


def _receive(source: socket.socket) -> Any:
    return pickle.loads(_exactly(source, LENGTH.unpack(_exactly(source, LENGTH.size))[0]))


def _exactly(source: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        more = source.recv(size - len(found))
        if not more:
            raise RuntimeError("the other process has ended; its error stands above")
        found += more
    return found
