"""Parts that `watershed demo` and `watershed up` share: which services are given, the commands they run, and sending events.

Invariant: what the environment, .env or luigi.cfg names is used, and never started, stopped or emptied by us; secrets travel in the
environment of a child, never in its arguments.
"""

import logging
import os
import re
import shutil
import signal
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import takewhile
from pathlib import Path

from kafka import KafkaProducer
from kafka.errors import KafkaError
from pyarrow import fs
from pydantic import SecretStr
from pydantic_settings import BaseSettings, DotEnvSettingsSource, PydanticBaseSettingsSource

from pipeline.base.errors import LogError, SettingsError
from pipeline.definition.fingerprints import source_fingerprint
from pipeline.definition.source import Source
from pipeline.handover import Cut, Generation
from pipeline.lake.lake import Lake
from pipeline.lake.targets import cut_targets
from pipeline.log.kafka.connection import KafkaConnection
from pipeline.settings import SERVICES, SecretFiles, Settings
from sandbox.events import Event, Kind
from sandbox.processes import Child, ServerError, quote_log
from sandbox.running import State
from serving.postgres.connection import parse_url

# Settings of one process: two workers cannot share a port.
OF_ONE_PROCESS = {"snapshot_every_s", "start_patience_s", "night_partitions", "load_readers"} | {
    "metrics_port",
    "metrics_host",
}
FLUSH_LIMIT_S = 60.0
SAMPLE_LETTERS = 90
ERROR_LINES = 6
LOGGED = ("DEBUG", "INFO", "WARNING", "=====")
RUNNING = re.compile(r" running +(\w+)\(")
DONE = re.compile(r" done +(\w+\(.*\))")
IN_PLAIN_WORDS = {
    "Nightly": "looking at what is to be done",
    "ChooseCut": "choosing the cut: an offset in every partition",
    "Archive": "archiving the log below the cut as Parquet",
    "Clean": "validating and deduplicating the archive",
    "FoldView": "folding the batch views",
    "Stage": "copying the batch views into Postgres, invisible",
    "Publish": "publishing: one transaction makes the new cut the visible one",
}


class Given(Settings):
    """The settings that a person wrote: environment, .env, luigi.cfg; not what an earlier `watershed up` started."""

    @classmethod
    def settings_customise_sources(  # type: ignore[override]
        cls, settings_cls: type[BaseSettings], **sources: PydanticBaseSettingsSource
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return super().settings_customise_sources(settings_cls, **sources)[:-2]


class GivenBefore(Given):
    """The same, and last what an earlier `watershed up` in this folder was given: another terminal need not set it again."""

    @classmethod
    def settings_customise_sources(  # type: ignore[override]
        cls, settings_cls: type[BaseSettings], **sources: PydanticBaseSettingsSource
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        noted = DotEnvSettingsSource(settings_cls, env_file=SERVICES)
        noted.env_vars = noted_before(State.read())
        written = super().settings_customise_sources(settings_cls, **sources)
        return *written, noted, SecretFiles(settings_cls, noted, SERVICES)


def noted_before(state: State) -> dict[str, str]:
    """The variables that services.env holds because a person had set them, by their names in lower case."""
    held = DotEnvSettingsSource(Settings, env_file=SERVICES).env_vars
    return {name: value for name, value in held.items() if value and name.upper() in state.given}


def of_this_terminal(environment: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """(variables of ours that another terminal needs as well, by name; those that hold a secret, which are written down nowhere).

    A secret's file is named by its whole path. A Postgres URL without a password is no secret.
    """
    ours, needed, secret = {name.upper(): value for name, value in environment.items() if value}, dict[str, str](), []
    for field_name, declared in Settings.model_fields.items():
        name, file = f"WATERSHED_{field_name.upper()}", f"WATERSHED_{field_name.upper()}_FILE"
        if field_name in OF_ONE_PROCESS:
            continue
        is_secret = declared.annotation == SecretStr | None
        if is_secret and ours.get(file):
            needed[file] = str(Path(ours[file]).expanduser().absolute())
        if name not in ours:
            continue
        if is_secret and not (field_name == "postgres" and parse_url(ours[name]).password is None):
            secret.append(name)
        else:
            needed[name] = whole(ours[name]) if field_name == "lake" else ours[name]
    return needed, secret


def whole(lake: str) -> str:
    """The lake as a child process finds it wherever it runs: an address, or an absolute path."""
    return lake if "://" in lake else str(Path(lake).expanduser().absolute())


def lake_of_its_own(given: Given, folder: Path) -> str:
    """For services that begin empty: a lake in `folder`, or below the one that is set, so that nothing of another log is overwritten."""
    if "lake" not in given.model_fields_set:
        return str(folder / "lake")
    root, mark, options = given.lake.partition("?")
    return whole(f"{root.rstrip('/')}/{folder.name}{mark}{options}")


def refuse_used_lake(lake: str) -> None:
    """SettingsError when the lake holds anything: a log that begins anew would overwrite the files of another one."""
    try:
        files, base = fs.FileSystem.from_uri(lake)
        used = bool(files.get_file_info(fs.FileSelector(base, allow_not_found=True)))
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"the lake {lake.partition('?')[0]} cannot be read: {error}; set `lake` (WATERSHED_LAKE)"
        ) from None
    if used:
        raise SettingsError(
            f"the lake {lake.partition('?')[0]} is not empty, and the embedded broker begins a new log, whose files would overwrite"
            f" those there: set `kafka` (WATERSHED_KAFKA) too, or leave `lake` unset, or set it to a new folder"
        )


@dataclass(frozen=True)
class Place:
    """Surroundings of a child process: addresses, the lake, the module of the views, and `more` variables that it reads."""

    kafka: KafkaConnection
    postgres: str = field(repr=False)  # may hold a password
    lake: str
    views: str = "views"
    more: Mapping[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """Environment of this process, with the settings on top; output is not held back, so that a log shows what happened last.

        Credentials of Kafka are not among them: a child reads them where we did, for it runs in the same folder.
        """
        settings = {"KAFKA": self.kafka.bootstrap, "POSTGRES": self.postgres, "LAKE": self.lake, "VIEWS": self.views}
        ours = {name: value for name, value in os.environ.items() if name.upper() != "WATERSHED_POSTGRES_FILE"}
        named = {f"WATERSHED_{name}": value for name, value in settings.items()}
        return {**ours, **named, **self.more, "PYTHONUNBUFFERED": "1"}

    def command(self, name: str, arguments: Sequence[str], log: Path) -> Child:
        """`python ARGUMENTS` as a child in the present folder, its output in `log`."""
        return Child(name, [sys.executable, *arguments], log, folder=Path.cwd(), env=self.environment())

    def worker(self, log: Path) -> Child:
        """A worker of the speed layer."""
        return self.command("the worker of the speed layer", ["-m", "speed_layer"], log)

    def watershed(self, *arguments: str, log: Path) -> Child:
        """`watershed ARGUMENTS`."""
        return self.command(f"watershed {' '.join(arguments)}", ["-m", "watershed", *arguments], log)

    def night(self, day: date, log: Path, scheduler: Sequence[str] = ("--local-scheduler",)) -> Child:
        """`luigi --module tasks Nightly --date DAY`."""
        arguments = ["-m", "luigi", "--module", "tasks", "Nightly", "--date", str(day), *scheduler]
        return self.command(f"the night of {day}", arguments, log)


def finished(child: Child) -> bool:
    """True when the child has ended well; ServerError, with what its log says of it, when it has ended badly."""
    if child.returncode not in (None, 0):
        raise ServerError(f"{child.name} failed with exit code {child.returncode}. {_error_of(child)}")
    return not child.runs


def _error_of(child: Child) -> str:
    """The last error that Luigi logged, without the summary that follows it; the end of the log where there is none."""
    lines = child.log_text().splitlines()
    at = max((n for n, line in enumerate(lines) if line.startswith("ERROR")), default=None)
    if at is None:
        return quote_log(child.log, child.from_byte)
    error = [lines[at], *takewhile(lambda line: not line.startswith(LOGGED), lines[at + 1 :])]
    shown = error if len(error) <= ERROR_LINES else [error[0], "...", *error[2 - ERROR_LINES :]]
    return "\n".join([f"From its log {child.log}:", *(f"  {line}" for line in shown)])


def run(child: Child, limit_s: float) -> None:
    """Wait until it has ended well; ServerError otherwise. Stopped when it takes longer than `limit_s`."""
    try:
        child.await_end(limit_s)
    finally:
        child.stop()
    finished(child)


def night_progress(child: Child) -> tuple[int, str]:
    """(tasks done, what it does now in plain words) of a night, from its log."""
    text = child.log_text()
    running = RUNNING.findall(text)
    return len(set(DONE.findall(text))), IN_PLAIN_WORDS.get(running[-1], running[-1]) if running else "Luigi starts"


def night_tasks(*sources: tuple[int, int]) -> int:
    """Number of tasks of a night over sources of so many (partitions, views).

    Of each source archive and clean a partition, fold a view, stage, publish; and once ChooseCut and Nightly.
    """
    return sum(2 * partitions + views + 2 for partitions, views in sources) + 2


def free_night(wanted: date, ledger: Sequence[Cut]) -> date:
    """`wanted`, or the first day after it that names no night yet: a date only names a night."""
    taken = {cut.date for cut in ledger}
    while wanted in taken:
        wanted += timedelta(days=1)
    return wanted


class Sender:
    """Sends events to topics under their keys. Not there before flush() returns.

    `sent` counts them by topic and kind, `kinds` by kind alone.
    """

    def __init__(self, kafka: KafkaConnection) -> None:
        self.sent, self.kinds = defaultdict[str, Counter[Kind]](Counter), Counter[Kind]()
        self._failed: list[tuple[str, BaseException]] = []
        servers, security = kafka.bootstrap, kafka.arguments()
        try:
            self._producer = KafkaProducer(
                bootstrap_servers=servers, acks="all", linger_ms=5, batch_size=64 * 1024, **security
            )
        except KafkaError as error:
            raise LogError(
                f"Kafka at {servers} cannot be reached ({error}): start it, or set WATERSHED_KAFKA"
            ) from error

    def send(self, topic: str, event: Event) -> None:
        """Hand one event to the producer; LogError when an earlier one was refused."""
        self._check()
        self._producer.send(topic, key=event.key, value=event.value).add_errback(
            lambda error: self._failed.append((topic, error))
        )
        self.count(topic, event.kind, 1)

    def count(self, topic: str, kind: Kind, events: int) -> None:
        """Count events as sent, by whomever they were."""
        self.sent[topic][kind] += events
        self.kinds[kind] += events

    def flush(self) -> None:
        """Wait until the broker has acknowledged all of them."""
        try:
            self._producer.flush(timeout=FLUSH_LIMIT_S)
        except KafkaError as error:
            raise LogError(f"the broker did not take all events within {FLUSH_LIMIT_S:g} s: {error}") from error
        self._check()

    def close(self) -> None:
        """Let go of the connection; what is not flushed may be lost."""
        self._producer.close(timeout=5)

    def _check(self) -> None:
        if self._failed:
            topic, error = self._failed[0]
            raise LogError(f"topic {topic}: the broker refused an event: {error}") from error


@dataclass(frozen=True)
class RejectedFile:
    """A file of rejected records in the lake: its address, how many records, and (reason, where it was and what it said) of some."""

    path: str
    records: int
    samples: dict[str, str]


def rejected_files(lake: str, source: Source, generation: Generation, ledger: Sequence[Cut]) -> list[RejectedFile]:
    """The files of rejected records that the nights made, found by their manifests."""
    opened = Lake(lake)
    found = []
    for targets in cut_targets(generation, source_fingerprint(source), {}, ledger):
        for partition in range(generation.partitions):
            manifest = targets.clean(partition).manifest(opened)
            for path in manifest.facts["rejected"] if manifest is not None else ():
                rows = opened.read_table(path, ["offset", "reason", "value"]).to_pylist()
                samples = {
                    r["reason"]: f"partition {partition}, offset {r['offset']}: {_shown(r['value'])}" for r in rows
                }
                found.append(RejectedFile(opened.uri(path).removeprefix("file://"), len(rows), samples))
    return found


def _shown(value: bytes | None) -> str:
    text = (value or b"").decode(errors="backslashreplace")
    return text if len(text) <= SAMPLE_LETTERS else text[:SAMPLE_LETTERS] + "…"


def program(name: str) -> str:
    """Command for a console script of ours here: by its name when it is in PATH, else by its path, else through this Python."""
    if shutil.which(name) is not None:
        return name
    beside = Path(sys.executable).with_name(name)
    if not beside.exists():
        return f"{sys.executable} -m {name}"
    return os.path.relpath(beside) if beside.is_relative_to(Path.cwd()) else str(beside)


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM and SIGHUP end it as Ctrl-C does: what was started is stopped."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_interrupts() -> None:
    """For the cleaning up, which must not be left half done."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def logged(path: Path) -> Iterator[None]:
    """Send what libraries log to a file: on the terminal it would tear the display."""
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()
