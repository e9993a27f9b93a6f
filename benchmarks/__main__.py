"""`python -m benchmarks [NAME]`, `all` without one: measure, check that all results are equal, print and store.

exit code 0  <=>  every contender's result was right and every audit found nothing; no figure is ever asserted
"""

import argparse
import importlib
import sys
from pathlib import Path

from benchmarks.events import BROKEN
from benchmarks.report import CONSOLE
from pipeline.base.errors import WatershedError
from sandbox.services import interruptible

NAMES = (
    "shapes",
    "formats",
    "protobuf",
    "speed",
    "nested",
    "freshness",
    "batch",
    "recompute",
    "serving",
    "push",
    "growth",
)
EVENTS = {"nested": 1_000_000, "push": 300_000}  # without --events; the others: DEFAULT_EVENTS
DEFAULT_EVENTS = 10_000_000


def parser() -> argparse.ArgumentParser:
    """Sizes are options; the defaults are those of docs/PERFORMANCE.md."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("which", nargs="?", default="all", choices=(*NAMES, "all"))
    made.add_argument("--events", type=int, help="events of the backlog (10 million, nested: 1) and of the night (10)")
    made.add_argument("--slow-events", type=int, default=1_000_000, help="how many of them the slow peers get")
    made.add_argument("--codec", default="none", choices=("none", "lz4", "zstd", "snappy", "gzip"))
    made.add_argument("--broken", type=float, default=BROKEN, help="speed, nested: the share of broken events")
    made.add_argument("--alone", action="store_true", help="speed, nested: without the peers")
    made.add_argument("--repeats", type=int, default=3, help="rounds; figures are medians over them")
    made.add_argument("--rate", type=int, default=50_000, help="freshness: events per second")
    made.add_argument("--seconds", type=int, default=60, help="freshness and serving: how long")
    made.add_argument("--nights", type=int, default=16, help="batch: nights of equal size, one after the other")
    made.add_argument("--night-events", type=int, default=500_000, help="batch: events of each of these")
    made.add_argument("--rows", type=int, default=20_000_000, help="recompute: rows of the clean data set")
    made.add_argument("--days", type=int, default=30, help="recompute: its daily partitions")
    made.add_argument("--groups", type=int, default=1_000_000, help="serving: groups of the view")
    made.add_argument("--growth-events", type=int, default=4_000_000, help="growth: events of the largest backlog")
    made.add_argument("--seed", type=int, default=5)
    made.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="where JSON and PNG go")
    made.add_argument("--keep", type=Path, help="keep servers' and processes' logs in this folder")
    return made


def main() -> int:
    """Run what is asked for."""
    given = parser().parse_args()
    try:
        with interruptible():
            for name in NAMES if given.which == "all" else (given.which,):
                sizes = {"events": given.events or EVENTS.get(name, DEFAULT_EVENTS)}
                importlib.import_module(f"benchmarks.{name}").main(argparse.Namespace(**vars(given) | sizes))
    except KeyboardInterrupt:
        return 130
    except WatershedError as error:
        CONSOLE.print(f"benchmarks: {error}", style="red", markup=False)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
