"""What a benchmark leaves: a table on the terminal, a JSON file and charts, each saying on which machine and of which commit.

a number stands nowhere without its sizes, versions, commit and date beside it in the same file
"""

import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.install import PEERS
from benchmarks.measure import ROOT
from sandbox.postgres import system_binaries

PACKAGES = ("kafka-python", "numba", "numpy", "pandas", "polars", "duckdb", "dask", "distributed", "pyarrow", "psycopg2-binary", "luigi",
            "confluent-kafka", "orjson", "pysimdjson", "protobuf",
            "bytewax", "quixstreams", "watershed-pipeline")  # fmt: skip
OURS, THEIRS = "#1f77b4", "#b0b7bf"
CONSOLE = Console(width=None if Console().is_terminal else 160)


def peers() -> dict[str, dict[str, Any]]:
    """Peer -> {python, version, left_out} as benchmarks.install found them; {} in an environment without peers."""
    found: dict[str, dict[str, Any]] = json.loads(PEERS.read_text()) if PEERS.exists() else {}
    return found


def machine() -> dict[str, Any]:
    """Where and what: enough to judge the figures by, nothing that names the machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "cores": os.cpu_count(),
        "cpu": _cpu(),
        "memory_gib": round(memory / 2**30, 1),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load_average_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": _versions() | {"Apache Kafka": _kafka(), "Postgres": _postgres()},
        "left_out": {name: peer["left_out"] for name, peer in peers().items() if peer["left_out"]},
    }


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def _kafka() -> str:
    found = re.search(r"<kafka.version>(.*?)<", (ROOT / "sandbox" / "kafka" / "pom.xml").read_text())
    return found[1] if found else "unknown"


def _postgres() -> str:
    done = subprocess.run(
        [str(system_binaries() / "postgres"), "--version"], capture_output=True, text=True, check=True
    )
    return done.stdout.split()[2]


def _versions() -> dict[str, str]:
    found = {
        d.metadata["Name"]: d.version for d in importlib.metadata.distributions() if d.metadata["Name"] in PACKAGES
    }
    return dict(
        sorted({**found, **{name: peer["version"] for name, peer in peers().items() if peer["version"]}}.items())
    )


def save(folder: Path, name: str, about: Mapping[str, Any], sizes: Mapping[str, Any], results: Any) -> None:
    """Write folder/name.json; `about` is machine() as of the start."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {"benchmark": name, **about, "sizes": dict(sizes), "results": results}
    path = folder / f"{name}.json"
    path.write_text(json.dumps(document, indent=1, default=str) + "\n")
    CONSOLE.print(f"wrote {path}", style="dim")


def table(title: str, rows: Sequence[Mapping[str, Any]], note: str = "") -> None:
    """A table of dicts with the same keys; numbers to the right."""
    shown = Table(title=title, title_justify="left")
    for n, name in enumerate(rows[0]):
        shown.add_column(name, justify="left" if n == 0 else "right")
    for row in rows:
        shown.add_row(*(_text(value) for value in row.values()))
    CONSOLE.print(shown)
    if note:
        CONSOLE.print(note, style="italic")


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def bars(path: Path, title: str, values: Mapping[str, float], unit: str, ours: Sequence[str]) -> None:
    """A bar for each name, ours in another colour; nothing without matplotlib."""
    axes, save_as = _axes(path, (7.5, 0.6 + 0.42 * len(values)))
    if axes is None:
        return
    names = list(values)
    drawn = axes.barh(names, list(values.values()), color=[OURS if n in ours else THEIRS for n in names])
    axes.bar_label(drawn, [_text(v) for v in values.values()], padding=3, fontsize=8)
    axes.invert_yaxis()
    axes.set_title(title, fontsize=9, loc="left")
    axes.set_xlabel(unit, fontsize=8)
    axes.margins(x=0.15)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.12g}")
    save_as()


def curve(
    path: Path, title: str, xs: Sequence[float], ys: Sequence[float], labels: tuple[str, str], slope: float
) -> None:
    """Points and their least-squares line."""
    axes, save_as = _axes(path, (7.5, 3.0))
    if axes is None:
        return
    middle_x, middle_y = sum(xs) / len(xs), sum(ys) / len(ys)
    axes.plot(xs, ys, "o", color=OURS)
    axes.plot(xs, [middle_y + slope * (x - middle_x) for x in xs], color=THEIRS)
    axes.set_ylim(0, 1.2 * max(ys))
    axes.set_title(title, fontsize=9, loc="left")
    axes.set_xlabel(labels[0], fontsize=8)
    axes.set_ylabel(labels[1], fontsize=8)
    save_as()


def _axes(path: Path, size: tuple[float, float]) -> tuple[Any, Any]:
    if importlib.util.find_spec("matplotlib") is None:
        return None, None
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=size)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)

    def save_as() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.tight_layout()
        figure.savefig(path, dpi=110, metadata={"Software": None})
        plt.close(figure)
        CONSOLE.print(f"wrote {path}", style="dim")

    return axes, save_as
