"""Processes of this folder that `watershed up` started, noted in .watershed/pids.json.

    a process is ours while its id and its time of birth are those noted

Noted at once, before anything else can fail: whatever was started can be stopped.
"""

import fcntl
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pipeline.base.errors import SettingsError
from pipeline.settings import SERVICES
from sandbox.processes import pid_runs

STATE = Path(SERVICES).parent


@dataclass(frozen=True)
class Process:
    """A process that `up` started. `where` is its address, or the data folder of Postgres; `log` its log."""

    pid: int
    born: str
    where: str
    log: str

    @property
    def runs(self) -> bool:
        """True when the process runs, and is that one: process ids are reused."""
        return pid_runs(self.pid) and _born(self.pid) == self.born


@dataclass
class State:
    """Content of .watershed/pids.json: the processes by name, and what they were started for."""

    data: str = ""
    serves: dict[str, str] = field(default_factory=dict)  # kafka, postgres (without its password), lake, views
    processes: dict[str, Process] = field(default_factory=dict)
    # Variables in services.env that a person had set, and `up` only noted
    given: list[str] = field(default_factory=list)

    @classmethod
    def read(cls) -> "State":
        path = STATE / "pids.json"
        if not path.exists():
            return cls()
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            processes = {name: Process(**one) for name, one in found["processes"].items()}
            return cls(found["data"], found["serves"], processes, found.get("given", []))
        except (ValueError, KeyError, TypeError) as error:
            raise SettingsError(
                f"{path} cannot be read ({error!r}): end what it names by hand, then delete it"
            ) from None

    def write(self) -> None:
        write_private(STATE / "pids.json", json.dumps(asdict(self), indent=1))

    def running(self, name: str) -> Process | None:
        found = self.processes.get(name)
        return found if found is not None and found.runs else None

    def note(self, name: str, pid: int, where: str, log: Path) -> None:
        """A process was started: written down before anything else can fail."""
        self.processes[name] = Process(pid, _born(pid), where, str(log))
        self.write()


@contextmanager
def alone() -> Iterator[None]:
    """One `up` or `down` at a time in this folder."""
    try:
        STATE.mkdir(mode=0o700, exist_ok=True)
        with (STATE / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise SettingsError(
                    f"another `watershed up` or `down` runs in {Path.cwd()}: wait until it has ended"
                ) from None
            yield
    except PermissionError as error:
        raise SettingsError(
            f"{STATE.absolute()} cannot be written ({error.strerror}): run it in a folder of your own"
        ) from None


def _born(pid: int) -> str:
    """When the process was started, as the system says it; empty when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    except FileNotFoundError:
        if Path("/proc/self").exists():
            return ""
    return subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.strip()


def write_private(path: Path, text: str) -> None:
    """Replace a file that only its owner may read."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.touch(mode=0o600, exist_ok=False)
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def write_services(variables: Mapping[str, str]) -> None:
    """Note what every command in this folder reads last, for terminals in whose environment it is not."""
    lines = ["# Written by `watershed up`, removed by `watershed down`; environment, .env and luigi.cfg come first."]
    for name, value in variables.items():
        quoted = value.replace("\\", "\\\\").replace("'", "\\'")
        lines.append(f"{name}='{quoted}'")
    write_private(Path(SERVICES), "\n".join(lines) + "\n")
