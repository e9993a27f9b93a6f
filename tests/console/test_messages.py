"""What a user can mend is one clear line with what to do next, exit code not 0, and no traceback."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from sandbox.processes import free_ports
from tests.support.system import System


def assert_one_line(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode != 0
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    said = [line for line in (done.stderr + done.stdout).splitlines() if any(w in line for w in words)]
    assert said and all(w in "\n".join(said) for w in words), done.stderr + done.stdout


def unreachable() -> str:
    return f"127.0.0.1:{free_ports(1)[0]}"


COMMANDS: dict[str, Callable[[System], subprocess.CompletedProcess[str]]] = {
    "init": lambda s: s.run("init", check=False),
    "speed": lambda s: s.run("speed", "--until-caught-up", check=False),
    "status": lambda s: s.run("status", check=False),
    "audit": lambda s: s.run("audit", check=False),
    "night": lambda s: s.night("2013-01-02", check=False),
}


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_unreachable_kafka_is_one_line(system: System, command: str) -> None:
    if command != "init":
        system.run("init", "--partitions", "1")
        system.produce([(0, b"k", b"{}")])
        system.catch_up()
    system.environment |= {"WATERSHED_KAFKA": unreachable(), "WATERSHED_START_PATIENCE_S": "1"}
    assert_one_line(COMMANDS[command](system), "WATERSHED_KAFKA")


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_unreachable_postgres_is_one_line(system: System, command: str) -> None:
    system.environment["WATERSHED_POSTGRES"] = f"postgresql://nobody:hidden@{unreachable()}/nothing"
    system.environment["WATERSHED_START_PATIENCE_S"] = "1"
    done = COMMANDS[command](system)
    assert_one_line(done, "WATERSHED_POSTGRES")
    assert "hidden" not in done.stderr + done.stdout


@pytest.mark.parametrize("command", ["init", "night"])
def test_a_wrong_password_is_one_line_and_never_shown(system: System, command: str) -> None:
    wrong = make_url(system.postgres).set(password="hidden-word")
    system.environment["WATERSHED_POSTGRES"] = wrong.render_as_string(hide_password=False)
    done = COMMANDS[command](system)
    assert_one_line(done, "password")
    assert "hidden-word" not in done.stderr + done.stdout


@pytest.mark.parametrize("command", ["speed", "status", "audit", "night"])
def test_before_init_each_command_names_init(system: System, command: str) -> None:
    assert_one_line(COMMANDS[command](system), "watershed init")


def test_a_missing_topic_is_named_with_the_command_that_makes_it(system: System) -> None:
    system.run("init", "--partitions", "1")
    from kafka.admin import KafkaAdminClient

    admin = KafkaAdminClient(bootstrap_servers=system.kafka)
    admin.delete_topics([system.topic])
    admin.close()
    assert_one_line(system.night("2013-01-02", check=False), system.topic)


def test_an_unknown_view_is_named_with_those_there_are(system: System) -> None:
    system.run("init", "--partitions", "1")
    assert_one_line(system.run("audit", "hourly_wether", check=False), "hourly_wether", "hourly_weather")


def test_an_unknown_views_module_is_one_line(system: System) -> None:
    system.environment["WATERSHED_VIEWS"] = "no_such_module"
    assert_one_line(system.run("init", check=False), "no_such_module", "WATERSHED_VIEWS")


def test_an_unwritable_lake_is_one_line(system: System, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    system.environment["WATERSHED_LAKE"] = str(tmp_path / "file" / "lake")
    assert_one_line(system.run("init", "--partitions", "1", check=False), "WATERSHED_LAKE")


def test_settings_that_are_missing_are_named_with_an_example(system: System) -> None:
    del system.environment["WATERSHED_POSTGRES"]
    assert_one_line(system.run("status", check=False), "postgres", "WATERSHED_POSTGRES")


def test_a_failing_night_exits_nonzero_without_any_luigi_cfg(system: System) -> None:
    assert not (system.folder / "luigi.cfg").exists()
    done = system.night("2013-01-02", check=False)
    assert done.returncode in (30, 35, 40)
