"""`watershed new` and `watershed try`: from a topic to a view that is exact, the module unedited; and what can be mended is one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from console.commands import LISTED, command_named
from console.commands.shortened import encoded, shorten
from tests.support.system import ROOT, System
from watershed import main

EVENTS = [
    {
        "deliveryId": f"d-{n}",
        "action": "opened" if n % 3 else "closed",
        "repository": {"id": n % 2, "fullName": "acme/shop", "private": False, "topics": ["etl"]},
        "sender": {"login": f"user{n % 4}", "avatar": 'https://example.org/"x"\n'},
        "installation": None if n % 5 else {"id": 3},
        "changes": n * 1.25,
        "at": 1709287200 + 60 * n,
    }
    for n in range(40)
]


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`watershed ARGUMENTS` in a folder, with no server set."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("WATERSHED_")}
    env |= {"PYTHONPATH": str(ROOT), "COLUMNS": "80", **environment}
    command = [sys.executable, "-m", "watershed", *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=120)


def lines(file: Path, events: list[Any]) -> Path:
    file.write_text("".join(e if isinstance(e, str) else json.dumps(e) + "\n" for e in events))
    return file


def test_a_file_is_enough_for_both_and_asks_for_no_server(tmp_path: Path) -> None:
    lines(tmp_path / "hooks.jsonl", [*EVENTS, EVENTS[0], "{broken\n"])
    done = run(tmp_path, "new", "hooks", "--file", "hooks.jsonl")
    assert done.returncode == 0, done.stderr
    assert "wrote hooks.py: 10 columns from 42 records" in done.stdout
    assert "1 records of the sample are rejected" in done.stdout and "watershed try --file hooks.jsonl" in done.stdout
    module = (tmp_path / "hooks.py").read_text()
    again = run(tmp_path, "new", "hooks", "--file", "hooks.jsonl")
    assert (
        again.returncode == 1 and "never overwrites" in again.stderr and (tmp_path / "hooks.py").read_text() == module
    )

    done = run(tmp_path, "try", "--file", "hooks.jsonl", WATERSHED_VIEWS="hooks")
    assert done.returncode == 0, done.stderr
    words = " ".join(done.stdout.split())
    assert "42 records looked at accepted 40, duplicates 1, rejected 1, tombstones 0" in words
    assert "broken JSON" in words and "line 42: {broken" in words
    assert "event times from 2024-03-01 10:00:00 to 2024-03-01 10:39:00" in words
    assert "repository_full_name 0 1 acme/shop acme/shop" in words
    assert max(map(len, done.stdout.splitlines())) <= 80, "it fits a terminal"
    (found,) = json.loads(run(tmp_path, "try", "--file", "hooks.jsonl", "--json", WATERSHED_VIEWS="hooks").stdout)[
        "sources"
    ]
    assert found["counts"] == {"accepted": 40, "duplicates": 1, "rejected": 1, "tombstones": 0}
    assert found["rejected"][0]["value"] == "{broken" and found["views"][0]["counts"]["folded"] == 40

    seconds = module.replace('Annotated[datetime, Epoch("s")]', "datetime")
    assert seconds != module
    (tmp_path / "wrong.py").write_text(seconds)
    done = run(tmp_path, "try", "--file", "hooks.jsonl", WATERSHED_VIEWS="wrong")
    assert done.returncode == 0 and 'are these seconds? Epoch("s")' in " ".join(done.stdout.split())


WRONG = {
    ("new", "hooks"): "give either --topic TOPIC or --file FILE",
    ("new", "hooks", "--topic", "a", "--file", "b"): "give either",
    ("new", "json", "--file", "hooks.jsonl"): "another name",
    ("new", "Hooks", "--file", "hooks.jsonl"): "lower-case",
    ("new", "class", "--file", "hooks.jsonl"): "another name",
    ("new", "hooks", "--file", "nothing.jsonl"): "cannot be read",
    ("new", "hooks", "--file", "hooks.jsonl", "--out", "nowhere"): "no folder nowhere",
    ("new", "hooks", "--file", "timeless.jsonl"): "A view needs an event time",
    ("new", "hooks", "--topic", "a"): "no kafka is set",
    ("new", "hooks", "--file", "hooks.jsonl", "--format", "avro"): "--topic TOPIC",
    ("new", "hooks", "--file", "hooks.jsonl", "--schema", "a.avsc"): "JSON has no schema",
    ("new", "hooks", "--topic", "a", "--format", "avro"): "WATERSHED_SCHEMA_REGISTRY",
    ("new", "hooks", "--topic", "a", "--format", "avro", "--message", "A"): "--message is for --format protobuf",
    ("new", "hooks", "--topic", "a", "--format", "avro", "--schema", "none.avsc"): "cannot be read",
    ("new", "hooks", "--topic", "a", "--format", "protobuf"): "needs --schema FILE",
    ("try", "--file", "hooks.jsonl"): "views module 'no_views' cannot be found",
}


def call(*arguments: str) -> int:
    """The command in this process: its exit code."""
    with pytest.raises(SystemExit) as ended:
        main([*arguments])
    return int(ended.value.code or 0)


@pytest.mark.parametrize(("arguments", "said"), WRONG.items(), ids=lambda value: str(value)[:30])
def test_what_can_be_mended_is_one_line_and_nothing_is_written(
    arguments: tuple[str, ...],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("WATERSHED_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WATERSHED_VIEWS", "no_views")
    lines(tmp_path / "hooks.jsonl", EVENTS[:3])
    lines(tmp_path / "timeless.jsonl", [{"id": 1}])
    assert call(*arguments) == 1
    told = capsys.readouterr().err
    assert said in told and len(told.splitlines()) <= 2
    assert not list(tmp_path.glob("*.py"))


@pytest.mark.parametrize("command", ["new", "try", "rejected", "replay"])
def test_help_says_what_the_list_of_commands_says(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(command, "--help") == 0
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert LISTED[command].split(":")[0][:40] in said


@pytest.mark.slow
def test_the_unedited_module_of_a_topic_goes_through_both_layers(system: System) -> None:
    system.run("new", "unused_name", "--topic", system.topic, check=False)
    system.environment["WATERSHED_VIEWS"] = "hooks"
    missing = system.run("new", "hooks", "--topic", system.topic, check=False)
    assert missing.returncode == 1 and "watershed init" in missing.stderr and "Traceback" not in missing.stderr
    from pipeline.log.kafka.log import KafkaLog

    log = KafkaLog(system.kafka)
    log.create_topic(system.topic, 2)
    log.close()
    empty = system.run("new", "hooks", "--topic", system.topic, check=False)
    assert empty.returncode == 1 and "holds no record" in empty.stderr
    events = [(e["repository"]["id"], json.dumps(e)) for e in EVENTS]  # type: ignore[index]
    system.produce((p, b"%d" % p, text.encode()) for p, text in events)
    said = system.run("new", "hooks", "--topic", system.topic).stdout
    assert "40 records; key repository_id, event time at, identity delivery_id" in said
    assert "equals the record's Kafka key in 40 of 40" in " ".join((system.folder / "hooks.py").read_text().split())
    system.environment["WATERSHED_POSTGRES"], postgres = "postgresql://nobody@127.0.0.1:1/nothing", system.postgres
    tried = system.run("try", COLUMNS="80").stdout
    words = " ".join(tried.split())
    assert "2 partitions: 40 records looked at accepted 40, duplicates 0, rejected 0" in words
    assert "before their record's timestamp by" in words and "events/" in words
    assert max(map(len, tried.splitlines())) <= 80
    system.environment["WATERSHED_POSTGRES"] = postgres
    system.produce([(1, b"0", json.dumps(EVENTS[0]).encode())])
    said = " ".join(system.run("try").stdout.split())
    assert "identity delivery_id: 1 of 40 values stand in several partitions, as d-0 in 0, 1" in said
    system.run("init")
    system.night("2024-03-02")
    system.produce((p, b"%d" % p, text.replace('"d-', '"later-').encode()) for p, text in events[:10])
    system.catch_up()
    system.assert_exact()
    assert system.query("SELECT sum(events) AS n FROM serving.hooks_per_hour") == [{"n": 51}]
    assert system.query("SELECT sum(accepted) AS n, sum(rejected) AS r FROM serving.accounting") == [{"n": 51, "r": 0}]


def test_a_value_is_shown_short_and_encoded_whole() -> None:
    assert (
        shorten(b"x" * 100, 10) == "x" * 9 + "…" and shorten(b"a\nb\x1b[31m", 20) == "a·b·[31m" and shorten(None) == "-"
    )
    assert encoded("value", b"\xff\x00") == {"value_base64": "/wA="} and encoded("value", "ü".encode()) == {
        "value": "ü"
    }


def test_every_command_is_found_after_every_other_was_imported() -> None:
    """A module of a command becomes an attribute of the package: `load` once hid the function that finds commands."""
    for _ in range(2):
        assert {name: command_named(name).name for name in LISTED} == {name: name for name in LISTED}
