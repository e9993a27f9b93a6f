"""The whole system for a test: commands as processes, on given servers, in a folder of its own.

Invariant: nothing here computes what the product computes; a test talks to it as a user does, by commands, SQL and Kafka.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from kafka import KafkaProducer
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from serving.postgres.connection import engine
from tests.support.forking import popen

ROOT = Path(__file__).resolve().parents[2]
VIEWS = """
from dataclasses import replace
from views.weather import observations as base, hourly_weather as hourly, daily_weather as daily
observations = replace(base, topic={topic!r})
hourly_weather = replace(hourly, source=observations)
daily_weather = replace(daily, source=observations)
VIEWS = (hourly_weather, daily_weather)
"""


def wait_for(condition: Any, what: str, seconds: float = 60) -> None:
    """Until condition() is true; AssertionError after `seconds`."""
    retrying = Retrying(retry=retry_if_result(lambda ok: not ok), wait=wait_fixed(0.05), stop=stop_after_delay(seconds))
    try:
        retrying(condition)
    except Exception as error:
        raise AssertionError(f"not within {seconds} s: {what}") from error


class System:
    """One topic, one database, one lake, one views module; commands run with these as their settings."""

    def __init__(self, folder: Path, kafka: str, postgres: str, topic: str, views: str | None = None) -> None:
        self.folder, self.kafka, self.postgres, self.topic = folder, kafka, postgres, topic
        self.views_file = folder / "own_views.py"
        self.define(views or VIEWS.format(topic=topic))
        self.lake = folder / "lake"
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("WATERSHED_")},
            "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
            "WATERSHED_KAFKA": kafka,
            "WATERSHED_POSTGRES": postgres,
            "WATERSHED_LAKE": str(self.lake),
            "WATERSHED_VIEWS": "own_views",
        }
        self.children: list[subprocess.Popen[str]] = []
        self.database = engine(postgres)

    def define(self, text: str) -> None:
        """Write the views module."""
        self.views_file.write_text(textwrap.dedent(text))

    # ---- commands
    def run(
        self, *arguments: str, check: bool = True, timeout: float = 180, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """`watershed ARGUMENTS`."""
        return self._call([sys.executable, "-m", "watershed", *arguments], check, timeout, environment)

    def night(
        self, date: str, *arguments: str, check: bool = True, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """`luigi --module tasks Nightly --date DATE`."""
        return self._call(self.luigi(date, *arguments), check, 300, environment)

    def luigi_task(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`luigi ARGUMENTS`."""
        command = [sys.executable, "-m", "luigi", *arguments, "--lock-pid-dir", str(self.folder / "luigi")]
        return self._call(command, True, 300, {})

    def start_night(self, date: str) -> subprocess.Popen[str]:
        """A night as a process, its standard error to be read."""
        return self._start(self.luigi(date), {}, stderr=subprocess.PIPE)

    def worker(self, name: str = "worker", **environment: str) -> subprocess.Popen[str]:
        """`watershed speed` in the background; its log in the folder."""
        with (self.folder / f"{name}.log").open("a") as log:
            return self._start([sys.executable, "-m", "watershed", "speed"], environment, stderr=log, stdout=log)

    def catch_up(self) -> None:
        """One worker until everything in the log is committed."""
        self.run("speed", "--until-caught-up")

    def audit(self, *arguments: str) -> dict[str, Any]:
        """`watershed audit --json`: its document; the command's exit code must say the same."""
        done = self.run("audit", "--json", *arguments, check=False)
        assert done.returncode in (0, 1), done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        exact = all(not v["differences"] and not v["counts"] for v in found["views"])
        assert done.returncode == (0 if exact else 1)
        return found

    def assert_exact(self) -> dict[str, Any]:
        """Both audits find nothing."""
        for arguments in ((), ("--reference",)):
            found = self.audit(*arguments)
            assert [(v["view"], v["differences"], v["counts"], v["examples"][:3]) for v in found["views"]] == [
                (v["view"], 0, [], []) for v in found["views"]
            ], found
        return found

    def luigi(self, date: str, *arguments: str) -> list[str]:
        """The command of a night. Luigi's lock goes by the command's text: a folder of its own, or another system's night holds it."""
        command = [sys.executable, "-m", "luigi", "--module", "tasks", "Nightly", "--date", date, "--local-scheduler"]
        return [*command, "--lock-pid-dir", str(self.folder / "luigi"), *arguments]

    def _call(
        self, command: list[str], check: bool, timeout: float, extra: dict[str, str]
    ) -> subprocess.CompletedProcess[str]:
        environment = {**self.environment, **extra}
        with popen(
            command, environment, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as child:
            try:
                out, err = child.communicate(timeout=timeout)
            except BaseException:
                child.kill()
                raise
        done = subprocess.CompletedProcess(command, child.returncode, out, err)
        if check:
            assert done.returncode == 0, f"{' '.join(command)} exited {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def _start(self, command: list[str], extra: dict[str, str], **streams: Any) -> subprocess.Popen[str]:
        environment, stdout = {**self.environment, **extra}, streams.pop("stdout", subprocess.DEVNULL)
        child = popen(command, environment, cwd=self.folder, text=True, stdout=stdout, **streams)
        self.children.append(child)
        return child

    def stop_all(self) -> None:
        """Kill what is still running."""
        for child in self.children:
            if child.poll() is None:
                child.send_signal(signal.SIGKILL)
            child.wait(timeout=30)
            for stream in (child.stderr, child.stdout):
                if stream is not None:
                    stream.close()
        self.database.dispose()

    # ---- data
    def produce(self, records: Iterable[tuple[int, bytes | None, bytes | None]]) -> int:
        """Send (partition, key, value) records and wait until all are there."""
        producer = KafkaProducer(bootstrap_servers=self.kafka, linger_ms=20, max_request_size=16 * 2**20, acks="all")
        sent = [producer.send(self.topic, key=key, value=value, partition=p) for p, key, value in records]
        producer.flush(timeout=120)
        for one in sent:
            one.get(timeout=10)
        producer.close()
        return len(sent)

    def query(self, sql: str, **values: Any) -> list[dict[str, Any]]:
        """Rows of one statement."""
        with self.database.connect() as connection:
            return [dict(row) for row in connection.execute(sa.text(sql), values).mappings()]

    def positions(self) -> dict[int, int]:
        """partition -> position."""
        sql = "SELECT partition, position FROM serving.freshness WHERE topic = :topic"
        return {row["partition"]: row["position"] for row in self.query(sql, topic=self.topic)}
