"""luigid as `up` starts it: a history on Postgres, and links that open; and a second terminal need not say again what the first said."""

from __future__ import annotations

import json
import re
import textwrap
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from pipeline.base.errors import SettingsError
from pipeline.settings import Settings
from sandbox.processes import free_ports
from sandbox.running import State, write_services
from sandbox.services import Given, GivenBefore, of_this_terminal
from sandbox.up import _refuse_forgotten
from sandbox.weather import encode, readings
from tests.support.commands import NEEDS_PROC, Commands
from tests.support.system import System

VIEWS = """
    from dataclasses import replace
    from views.weather import hourly_weather as hourly
    observations = replace(hourly.source, topic="own.observations")
    hourly_weather = replace(hourly, source=observations, name="own_hours")
    VIEWS = (hourly_weather,)
"""
MADE = {
    "ChooseCut": "cuts/2013-01-02.json",
    "Archive": "master/own.observations/partition=",
    "Clean": "clean/own.observations/fingerprint=",
    "FoldView": "views/own_hours/fingerprint=",
    "Stage": "views/own_hours/fingerprint=",
    "Publish": "views/own_hours/_current.json",
    "Nightly": "cuts/2013-01-02.json",
}
OUTSIDE = [
    "/lake/../.watershed/pids.json",
    "/lake/cuts/../../pids.json",
    "/lake/cuts/%2e%2e/%2e%2e/pids.json",
    "/lake/cuts/..%2f..%2f..%2fpids.json",
    "/lake/cuts/..%5c..%5cpids.json",
    "/lake/%2fetc/hostname.json",
    "/lake//cuts/2013-01-02.json",
    "/lake/cuts/2013-01-02.json%00",
    "/lake/cuts",
    "/lake/",
    "/lake/cuts/.hidden.json",
    "/lake/cuts/1999-01-01.json",
]


def get(url: str) -> tuple[int, str, bytes]:
    """(status, content type, body)"""
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, "", error.read()


def tasks_of(page: str) -> dict[str, dict[str, Any]]:
    """What luigid's own page shows of the tasks that are done."""
    asked = urllib.parse.quote(json.dumps({"status": "DONE", "upstream_status": ""}))
    found: dict[str, dict[str, Any]] = json.loads(get(f"{page}/api/task_list?data={asked}")[2])["response"]
    return found


def night(commands: Commands, page: str, date: str) -> None:
    arguments = ["--module", "tasks", "Nightly", "--date", date, "--scheduler-port", page.rpartition(":")[2]]
    code, out, err = commands.run("luigi", *arguments)
    assert code == 0, out + err


@pytest.mark.slow
@pytest.mark.timeout(400)
@NEEDS_PROC
def test_every_link_opens_the_history_lasts_and_a_second_terminal_works_on_the_same_views(commands: Commands) -> None:
    (commands.folder / "own_views.py").write_text(textwrap.dedent(VIEWS))
    commands.environment["WATERSHED_VIEWS"] = "own_views"
    code, out, err = commands.run("watershed", "up")
    assert code == 0, out + err
    del commands.environment["WATERSHED_VIEWS"]  # another terminal

    state = json.loads((commands.folder / ".watershed/pids.json").read_text())
    page, postgres = state["processes"]["luigid"]["where"], services(commands.folder)["WATERSHED_POSTGRES"]
    system = System(commands.folder, state["serves"]["kafka"], postgres, "own.observations", textwrap.dedent(VIEWS))
    system.produce((n % 4, e.key, e.value) for n, e in enumerate(map(encode, readings()[:200])))
    system.database.dispose()
    before = schemas(postgres)
    code, out, err = commands.run("watershed", "plan")
    assert code == 0 and "a night of own.observations" in " ".join(out.split()), out + err
    code, out, err = commands.run("watershed", "status", "--json")
    assert code == 0 and {p["topic"] for p in json.loads(out)["partitions"]} == {"own.observations"}, err
    night(commands, page, "2013-01-02")
    code, out, err = commands.run("watershed", "up")
    assert code == 0 and "Everything runs already" in out and "own_views: own_hours" in out, out + err

    tasks = tasks_of(page)
    assert {task["name"] for task in tasks.values()} == set(MADE)
    for task in tasks.values():
        url = task["tracking_url"]
        assert url.startswith(f"{page}/lake/{MADE[task['name']]}"), url
        status, kind, body = get(url)
        assert (status, kind) == (200, "application/json; charset=utf-8"), url
        found = json.loads(body)
        assert found["date"] == "2013-01-02" if "cuts" in found else {"files", "inputs"} <= found.keys(), url
    for path in (*OUTSIDE, *parquet_of(commands.folder)):
        assert get(page + path)[0] == 404, path
    assert_history(page)
    assert schemas(postgres) - before == set() and "luigi" in before, "a schema of its own, made when luigid starts"

    commands.environment["WATERSHED_LAKE_URL"] = ""  # as with somebody's own luigid, where nobody serves the lake
    night(commands, page, "2013-01-03")
    links = [task["tracking_url"] for task in tasks_of(page).values() if task["params"].get("date") == "2013-01-03"]
    assert links == [None, None], "a link that cannot open is none"


def assert_history(page: str) -> None:
    status, _, body = get(f"{page}/history")
    assert status == 200 and all(name.encode() in body for name in MADE)
    ids = re.findall(rb"/history/by_id/(\d+)\D", body)
    paths = ["/history/by_name/Publish", "/history/by_params/Publish", "/tasklist", "/tasklist/Publish"]
    for path in (*paths, f"/history/by_id/{ids[0].decode()}"):
        status, _, body = get(page + path)
        assert status == 200 and (b"Publish" in body or b"DONE" in body), path


def services(folder: Path) -> dict[str, str]:
    lines = (folder / ".watershed/services.env").read_text().splitlines()
    return {name: value.strip("'") for name, _, value in (line.partition("=") for line in lines) if value}


def schemas(postgres: str) -> set[str]:
    connection = psycopg2.connect(postgres)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_'")
            return {name for (name,) in cursor.fetchall()}
    finally:
        connection.close()


def parquet_of(folder: Path) -> list[str]:
    lake = Path(services(folder)["WATERSHED_LAKE"])
    found = sorted(lake.rglob("*.parquet"))
    assert found
    return [f"/lake/{found[0].relative_to(lake)}"]


def test_what_only_this_terminal_says_is_noted_and_no_secret_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = {
        "WATERSHED_VIEWS": "own",
        "watershed_kafka": "broker:9092",
        "WATERSHED_KAFKA_PASSWORD": "hidden",
        "WATERSHED_KAFKA_PASSWORD_FILE": "",
        "WATERSHED_POSTGRES": "postgresql://me:hidden@db/x",
        "WATERSHED_LAKE": "lake",
        "WATERSHED_METRICS_PORT": "9100",
        "HOME": "/root",
    }
    needed, secret = of_this_terminal(said)
    kept = {"WATERSHED_VIEWS": "own", "WATERSHED_KAFKA": "broker:9092", "WATERSHED_LAKE": str(tmp_path / "lake")}
    assert (needed, sorted(secret)) == (kept, ["WATERSHED_KAFKA_PASSWORD", "WATERSHED_POSTGRES"])
    plain, files = "postgresql://me@/x?host=/run", {"WATERSHED_KAFKA_PASSWORD_FILE": "secret"}
    assert of_this_terminal({"WATERSHED_POSTGRES": plain} | files) == (
        {"WATERSHED_POSTGRES": plain, "WATERSHED_KAFKA_PASSWORD_FILE": str(tmp_path / "secret")},
        [],
    )
    hidden = "postgresql://me@/x?host=/run&password=hidden"
    assert of_this_terminal({"WATERSHED_POSTGRES": hidden}) == ({}, ["WATERSHED_POSTGRES"])


def test_what_was_noted_is_read_last_and_taken_for_a_persons_by_the_next_up_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("KAFKA", "POSTGRES", "LAKE", "VIEWS", "KAFKA_PASSWORD", "KAFKA_PASSWORD_FILE"):
        monkeypatch.delenv(f"WATERSHED_{name}", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".watershed").mkdir()
    (tmp_path / "secret").write_text("it's a secret\n")
    State(given=["WATERSHED_VIEWS", "WATERSHED_KAFKA_PASSWORD_FILE"]).write()
    noted = {
        "VIEWS": "own",
        "KAFKA": "127.0.0.1:1",
        "LAKE": "/it's/a\\lake",
        "KAFKA_PASSWORD_FILE": str(tmp_path / "secret"),
    }
    write_services({f"WATERSHED_{name}": value for name, value in noted.items()})
    found, given, before = Settings(), Given(), GivenBefore()
    assert (found.views, found.kafka, found.lake) == ("own", "127.0.0.1:1", "/it's/a\\lake")
    assert found.kafka_password is not None and found.kafka_password.get_secret_value() == "it's a secret"
    assert given.model_fields_set == set() and given.views == "views"
    assert before.model_fields_set == {"views", "kafka_password"} and before.views == "own"
    monkeypatch.setenv("WATERSHED_VIEWS", "others")
    assert (Settings().views, GivenBefore().views) == ("others", "others")


def test_up_starts_nothing_beside_a_server_of_yours_whose_address_it_does_not_know_any_more() -> None:
    state = State(serves={"kafka": "broker:9092", "postgres": "me@db/x"})
    with pytest.raises(SettingsError, match=r"your postgres at me@db/x.*set WATERSHED_POSTGRES here too"):
        _refuse_forgotten({"kafka": True, "postgres": False}, state)
    _refuse_forgotten({"kafka": True, "postgres": True}, state)
    _refuse_forgotten({"kafka": False, "postgres": False}, State())


def test_a_luigid_that_cannot_keep_its_history_says_why_in_one_line_without_the_password(commands: Commands) -> None:
    commands.environment |= {
        "WATERSHED_POSTGRES": f"postgresql://me:hidden-word@127.0.0.1:{free_ports(1)[0]}/x",
        "WATERSHED_START_PATIENCE_S": "0",
    }
    code, out, err = commands.run("tasks.luigid", "--port", str(free_ports(1)[0]))
    assert (
        code == 1
        and err.splitlines()[-1].startswith("luigid: Postgres at me@127.0.0.1")
        and "WATERSHED_POSTGRES" in err
    )
    assert "Traceback" not in err and "hidden-word" not in out + err
