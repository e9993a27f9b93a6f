"""What a fresh clone is set up from agrees with itself: one list of ranges, a lock with hashes, no index by name."""

from __future__ import annotations

import configparser
import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]


def pipfile() -> dict[str, Any]:
    return tomllib.loads((ROOT / "Pipfile").read_text(encoding="utf-8"))


def requirement(name: str, wanted: str | dict[str, Any]) -> Requirement:
    """One line of the Pipfile, with its extras, as pip writes it."""
    if isinstance(wanted, str):
        wanted = {"version": wanted}
    extras = f"[{','.join(wanted['extras'])}]" if "extras" in wanted else ""
    return Requirement(name + extras + wanted["version"].replace("*", ""))


def lock() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((ROOT / "Pipfile.lock").read_text(encoding="utf-8"))
    return loaded


def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def test_lock_and_pipfile_name_no_index() -> None:
    assert "source" not in pipfile()
    assert lock()["_meta"]["sources"] == []
    for part in ("default", "develop"):
        assert [name for name, entry in lock()[part].items() if "index" in entry] == []
    for name in ("Pipfile", "Pipfile.lock", "setup.cfg", "pyproject.toml", "Makefile", ".ci/run"):
        assert re.findall(r"https?://(?!127\.0\.0\.1|localhost)\S+", (ROOT / name).read_text(encoding="utf-8")) == []


def test_every_locked_package_has_one_version_and_hashes() -> None:
    for part in ("default", "develop"):
        assert lock()[part]
        for name, entry in lock()[part].items():
            assert re.fullmatch(r"==[^,*]+", entry["version"]), name
            assert all(one.startswith("sha256:") for one in entry["hashes"]) and entry["hashes"], name


def test_setup_cfg_and_pipfile_give_the_same_ranges() -> None:
    config = setup_cfg()
    lines = config["options"]["install_requires"].split() + config["options.extras_require"]["demo"].split()
    declared = {canonicalize_name(one.name): (one.extras, str(one.specifier)) for one in map(Requirement, lines)}
    piped = [requirement(name, wanted) for name, wanted in pipfile()["packages"].items()]
    assert declared == {canonicalize_name(one.name): (one.extras, str(one.specifier)) for one in piped}


@pytest.mark.parametrize(("part", "locked_part"), [("packages", "default"), ("dev-packages", "develop")])
def test_locked_versions_lie_in_the_ranges(part: str, locked_part: str) -> None:
    for name, wanted in pipfile()[part].items():
        locked = lock()[locked_part][canonicalize_name(name)]["version"].removeprefix("==")
        assert requirement(name, wanted).specifier.contains(locked), name


def test_pyproject_holds_the_build_system_and_nothing_else() -> None:
    assert list(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))) == ["build-system"]


def test_make_help_lists_every_target_a_user_may_call() -> None:
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert phony is not None
    shown = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert sorted(re.findall(r"^  make (\S+) +\S", shown, re.MULTILINE)) == sorted(phony[1].split())
