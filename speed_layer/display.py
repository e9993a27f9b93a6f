"""A worker's figures for people: a live table on a terminal, a line every ten seconds elsewhere.

Invariant: shown as Stats has them; a lag that nobody knows is shown as unknown, never as 0.
"""

import threading

import structlog
from rich.console import Console
from rich.live import Live
from rich.table import Table

from pipeline.base.stages import totals
from speed_layer.stats import Stats

SHOW_EVERY_S = 1.0
LOG_EVERY_S = 10.0
UNKNOWN = "unknown"


class Display:
    """Shows a worker's figures, from a thread of its own, within a `with`."""

    def __init__(self, name: str, stats: Stats) -> None:
        self.name, self.stats = name, stats
        self.done = threading.Event()
        self.console = Console(stderr=True)
        self.thread = threading.Thread(target=self._show, name="display", daemon=True)

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join(timeout=5)

    def _show(self) -> None:
        if self.console.is_terminal:
            with Live(table(self.name, self.stats), console=self.console, refresh_per_second=4) as live:
                while not self.done.wait(SHOW_EVERY_S / 2):
                    live.update(table(self.name, self.stats))
                live.update(table(self.name, self.stats))
        else:
            log = structlog.get_logger("speed")
            while not self.done.wait(LOG_EVERY_S):
                log.info("speed", **figures(self.stats))
            log.info("speed", **figures(self.stats))
            log.info("seconds spent", **{name: round(spent_s, 2) for name, (spent_s, _) in totals().items()})


def figures(stats: Stats) -> dict[str, object]:
    """The line's names and values; `lag` is a number, or the word that says that nobody knows it."""
    counts, lag = stats.totals, stats.lag
    return {
        "partitions": len(stats.positions),
        "lag": UNKNOWN if lag is None else lag,
        "rate_per_s": round(stats.rate_per_s),
        "commit_ms": round(stats.commit_ms, 1),
        "latency_ms": round(stats.latency_ms),
        "accepted": counts.accepted,
        "duplicates": counts.duplicates,
        "rejected": counts.rejected,
        "tombstones": counts.tombstones,
    }


def table(name: str, stats: Stats) -> Table:
    """A row per partition in hand, then the figures of all of them; the caption says why the worker waits."""
    shown = Table(title=f"speed layer, worker {name}", caption=stats.trouble or None)
    for column in ("partition", "position", "log end", "lag"):
        shown.add_column(column, justify="left" if column == "partition" else "right")
    for (topic, partition), position in sorted(stats.positions.items()):
        end = stats.log_end((topic, partition))
        of_log = (UNKNOWN, UNKNOWN) if end is None else (f"{max(end, position):,}", f"{max(0, end - position):,}")
        shown.add_row(f"{topic}/{partition}", f"{position:,}", *of_log)
    counts = stats.totals
    shown.add_section()
    shown.add_row("rate", f"{stats.rate_per_s:,.0f} records/s", "commit", f"{stats.commit_ms:.1f} ms")
    shown.add_row("latency", f"{stats.latency_ms:,.0f} ms", "commits", f"{stats.commits:,}")
    shown.add_row("accepted", f"{counts.accepted:,}", "duplicates", f"{counts.duplicates:,}")
    shown.add_row("rejected", f"{counts.rejected:,}", "tombstones", f"{counts.tombstones:,}")
    return shown
