"""A command that is forked is a process as any: its streams, its end, its environment, and what kills it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import forking
from tests.support.forking import Forked, popen
from tests.support.system import ROOT

PROBE = """
import atexit, os, sys, signal, time, threading
def at_end(): print("at the end")
atexit.register(at_end)
what = sys.argv[1]
if what == "say":
    print(os.getcwd(), os.environ.get("OWN"), os.environ.get("WATERSHED_GONE"), sys.argv[1:], __name__, "speed_layer.run" in sys.modules)
    print("an error", file=sys.stderr)
elif what == "exit":
    sys.exit(int(sys.argv[2]))
elif what == "words":
    sys.exit("in words")
elif what == "raise":
    raise ValueError("of its own")
elif what == "stop":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
    print("ready", flush=True)
    while True: time.sleep(0.05)
elif what == "thread":
    threading.Thread(target=lambda: (time.sleep(0.2), print("the thread"))).start()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "probe.py").write_text(PROBE)
    yield tmp_path


def start(folder: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", **environment}
    command = [sys.executable, "-m", "probe", *arguments]
    return Forked(command, env=env, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_it_has_its_folder_environment_arguments_and_streams_and_imports_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATERSHED_GONE", "here")
    out, err = start(folder, "say", "a b", OWN="x").communicate(timeout=30)
    assert out == f"{folder} x here ['say', 'a b'] __main__ True\nat the end\n"
    assert err == "an error\n"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("exit", "0"), 0, ""),
        (("exit", "30"), 30, ""),
        (("words",), 1, "in words"),
        (("raise",), 1, "ValueError: of its own"),
    ],
)
def test_it_ends_as_an_interpreter_does(folder: Path, arguments: tuple[str, ...], code: int, said: str) -> None:
    child = start(folder, *arguments)
    out, err = child.communicate(timeout=30)
    assert (child.returncode, out) == (code, "at the end\n")
    assert said in err


def test_it_waits_for_its_threads(folder: Path) -> None:
    out, _ = start(folder, "thread").communicate(timeout=30)
    assert out == "the thread\nat the end\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 7), (signal.SIGINT, 1)])
def test_signals_reach_it_and_its_end_is_told(folder: Path, number: int, code: int) -> None:
    child = start(folder, "stop")
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    assert child.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(timeout=0.1)
    child.send_signal(number)
    assert child.wait(timeout=30) == code
    child.communicate()
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)


def test_many_at_once_each_have_an_end_of_their_own(folder: Path) -> None:
    before_s = forking.spent_s
    children = [start(folder, "exit", str(n)) for n in range(12)]
    for child in reversed(children):
        child.communicate(timeout=60)
    assert [child.returncode for child in children] == list(range(12))
    assert forking.spent_s > before_s


def test_the_first_of_a_command_and_what_speaks_to_an_interpreter_is_fresh(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forking, "_seen", set())
    monkeypatch.delenv("WATERSHED_TESTS_FRESH", raising=False)

    def forked(*arguments: str, **environment: str) -> bool:
        env = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", **environment}
        child = popen([sys.executable, "-m", "probe", *arguments], env, cwd=folder, stdout=subprocess.DEVNULL)
        child.wait(timeout=60)
        return isinstance(child, Forked)

    assert not forked("say")
    assert forked("say") and forked("say", WATERSHED_LAKE="x")
    assert not forked("say", PYTHONHASHSEED="1") and not forked("say", DASK_SCHEDULER="synchronous")
    monkeypatch.setenv("WATERSHED_TESTS_FRESH", "1")
    assert not forked("say")


def test_what_is_forked_from_ends_with_its_socket() -> None:
    server = forking.Server()
    server.stop()
    assert server.process.poll() == 0
