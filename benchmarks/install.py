"""The virtual environment of the benchmarks, .venv-bench: the product at the versions of Pipfile.lock, and the peers beside it.

    a peer that the lock's versions exclude gets an environment of its own; one that cannot be installed is left out, with the reason

`python -m benchmarks.install` needs the standard library alone. What came of it stands in .venv-bench/peers.json.
"""

import configparser
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".venv-bench"
PEERS = FOLDER / "peers.json"
ALONE = ("quixstreams",)  # pins a pydantic-settings and a confluent-kafka that are older than the others'
VERSION = "import importlib.metadata as m, sys; print(m.version(sys.argv[1]))"


def main() -> int:
    """Make it anew; exit code 0 also when peers are left out."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    print("Making .venv-bench: the product and its peers (once, about two minutes) ...", file=sys.stderr)
    python = _environment(FOLDER)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
        constraints.write(_locked())
        constraints.flush()
        failed = _pip(python, "--constraint", constraints.name, "setuptools", "matplotlib", "--editable", str(ROOT))
        if failed:
            print(f"the product cannot be installed: {failed}", file=sys.stderr)
            return 1
        found = {_name(wanted): _install(python, wanted, constraints.name) for wanted in _wanted()}
    PEERS.write_text(json.dumps(found, indent=1) + "\n")
    for name, peer in found.items():
        print(
            f"  {name} {peer['version']}" if peer["python"] else f"  {name} is left out: {peer['left_out']}",
            file=sys.stderr,
        )
    return 0


def _wanted() -> list[str]:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    return [*config["options.extras_require"]["bench"].split(), *ALONE]


def _name(wanted: str) -> str:
    return re.split(r"[\[<>=]", wanted)[0]


def _locked() -> str:
    """The lock's versions as constraints of pip."""
    entries = json.loads((ROOT / "Pipfile.lock").read_text(encoding="utf-8"))["default"]
    return "".join(f"{name}{entry['version']}\n" for name, entry in entries.items())


def _install(python: Path, wanted: str, constraints: str) -> dict[str, str | None]:
    name = _name(wanted)
    failed = "" if name in ALONE else _pip(python, "--constraint", constraints, wanted)
    if name in ALONE:
        python = _environment(FOLDER / "peers" / name)
        failed = _pip(python, wanted)
    if failed:
        return {"python": None, "version": None, "left_out": failed}
    done = subprocess.run([str(python), "-c", VERSION, name], capture_output=True, text=True, check=True)
    return {"python": str(python.relative_to(ROOT)), "version": done.stdout.strip(), "left_out": None}


def _environment(folder: Path) -> Path:
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    return folder / "bin" / "python"


def _pip(python: Path, *arguments: str) -> str:
    """Install; "" or the last line that says why it failed."""
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return ""
    lines = (
        [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        or done.stderr.splitlines()
        or ["no reason given"]
    )
    return lines[-1].removeprefix("ERROR: ")


if __name__ == "__main__":
    sys.exit(main())
