"""`watershed up` and `down`: what runs in the background of a folder."""

from __future__ import annotations

import json
import os
import signal
import stat
from pathlib import Path

import pytest

from pipeline.base.errors import SettingsError
from pipeline.settings import Settings
from sandbox.processes import pid_runs
from sandbox.services import Given, lake_of_its_own, refuse_used_lake
from tests.support.commands import NEEDS_PROC, Commands
from tests.support.system import wait_for


@pytest.mark.slow
@NEEDS_PROC
def test_up_leaves_everything_running_finds_it_again_and_down_stops_it(commands: Commands) -> None:
    code, out, err = commands.run("watershed", "up")
    assert code == 0, out + err
    state = commands.folder / ".watershed"
    for name in ("services.env", "pids.json"):
        assert stat.S_IMODE((state / name).stat().st_mode) == 0o600
    first = json.loads((state / "pids.json").read_text())["processes"]
    assert set(first) == {"broker", "postgres", "worker", "luigid"} and all(pid_runs(p["pid"]) for p in first.values())
    assert first["luigid"]["where"] in out and "watershed down" in out

    code, out, err = commands.run("watershed", "up")
    assert code == 0, out + err
    assert json.loads((state / "pids.json").read_text())["processes"] == first, "the second finds them running"
    code, out, err = commands.run("watershed", "status", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert len(found["partitions"]) == 4 and len(found["workers"]["weather.observations"]) == 1
    port = first["luigid"]["where"].rpartition(":")[2]
    code, _, err = commands.run(
        "luigi", "--module", "tasks", "Nightly", "--date", "2013-01-02", "--scheduler-port", port
    )
    assert code == 0, err
    assert commands.run("watershed", "audit")[0] == 0

    code, out, err = commands.run("watershed", "down")
    assert code == 0, out + err
    assert not any(pid_runs(p["pid"]) for p in first.values())
    assert not (state / "services.env").exists() and commands.processes() == []
    assert Path(first["postgres"]["where"], "PG_VERSION").exists(), "data stays"
    code, _, err = commands.run("watershed", "status")
    assert code == 1 and "watershed up" in err
    code, out, _ = commands.run("watershed", "down")
    assert code == 0 and "Nothing" in out


@pytest.mark.slow
@NEEDS_PROC
def test_up_begins_anew_when_its_memory_only_broker_has_died(commands: Commands) -> None:
    assert commands.run("watershed", "up")[0] == 0
    pids = commands.folder / ".watershed" / "pids.json"
    first = json.loads(pids.read_text())
    os.kill(first["processes"]["broker"]["pid"], signal.SIGKILL)
    wait_for(lambda: not pid_runs(first["processes"]["broker"]["pid"]), "the broker dies")
    code, out, err = commands.run("watershed", "up")
    assert code == 0, out + err
    second = json.loads(pids.read_text())
    assert second["data"] != first["data"] and Path(first["data"]).is_dir(), "a fresh folder, and the old one is kept"
    assert not any(pid_runs(p["pid"]) for p in first["processes"].values()), (
        "nothing of the time before is left running"
    )
    assert commands.run("watershed", "audit")[0] == 0


def test_an_embedded_broker_gets_a_lake_of_its_own_and_never_one_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WATERSHED_LAKE", raising=False)
    assert lake_of_its_own(Given(), tmp_path / "demo-1") == str(tmp_path / "demo-1" / "lake")
    monkeypatch.setenv("WATERSHED_LAKE", "s3://bucket/lake?region=eu-west-1")
    assert lake_of_its_own(Given(), tmp_path / "demo-1") == "s3://bucket/lake/demo-1?region=eu-west-1"
    refuse_used_lake(str(tmp_path / "new"))
    (tmp_path / "used").mkdir()
    refuse_used_lake(str(tmp_path / "used"))
    (tmp_path / "used" / "cuts").mkdir()
    with pytest.raises(SettingsError, match="is not empty"):
        refuse_used_lake(str(tmp_path / "used"))


def test_what_up_started_is_not_taken_for_what_a_person_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KAFKA", "POSTGRES", "LAKE"):
        monkeypatch.delenv(f"WATERSHED_{name}", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".watershed").mkdir()
    (tmp_path / ".watershed" / "services.env").write_text("WATERSHED_KAFKA='127.0.0.1:1'\n")
    assert (Settings().kafka, Given().kafka) == ("127.0.0.1:1", None)
    (tmp_path / "luigi.cfg").write_text("[watershed]\nkafka = own:9092\n")
    assert (Settings().kafka, Given().kafka) == ("own:9092", "own:9092")
