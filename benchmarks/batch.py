"""The batch layer: a whole night over N raw events, and whether its cost depends on the history below its cut.

    cost(night n) = a + slope * n        over nights of equal size; a slope of nothing is what an incremental fold promises

A night is archive, clean, deduplicate, fold, stage, publish, as `luigi --module tasks Nightly` runs it, Python's start included.
"""

import argparse
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.events import expected
from benchmarks.measure import Run
from benchmarks.place import LIMIT_S, Place, Product, same, servers
from benchmarks.produce import send
from benchmarks.report import CONSOLE, bars, curve, machine, save, table

SHOWN = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class OneNight:
    """What the night of that number (from 1) took; `below` is how many events were below its cut's predecessor."""

    night: int
    below: int
    events: int
    wall_s: float
    cpu_s: float
    peak_mib: float
    events_per_s: float


def one(product: Product, number: int, below: int, count: int) -> OneNight:
    """Run a night over `count` new events."""
    run: Run = product.night(number).finish(LIMIT_S)
    return OneNight(number + 1, below, count, run.wall_s, run.cpu_s, run.peak_mib, count / run.wall_s)


def whole_night(place: Place, seed: int, count: int) -> tuple[OneNight, OneNight, int]:
    """(a night over one event, which is what starting costs; a night over the others; audited rows)."""
    with place.product("night") as product:
        send(place.kafka.bootstrap, seed, 1)
        empty = one(product, 0, 0, 1)
        took_s = send(place.kafka.bootstrap, seed, count, start=1)
        CONSOLE.print(f"sent {count:,} events in {took_s:.1f} s", style="dim")
        full = one(product, 1, 1, count - 1)
        same(product.result(), expected(seed, count), "the night")
        return empty, full, product.audit()


def history(place: Place, seed: int, nights: int, size: int) -> tuple[list[OneNight], int]:
    """Nights of equal size, one after the other; and audited rows."""
    found = []
    with place.product("history") as product:
        for n in range(nights + 1):
            send(place.kafka.bootstrap, seed + 1, (n + 1) * size, start=n * size)
            found.append(one(product, n, n * size, size))
            CONSOLE.print(f"night {n} of {nights}: {found[-1].wall_s:.2f} s", style="dim")
        return found[
            1:
        ], product.audit()  # the first has nothing below it, and compiles what no other night compiles again


def slope_s(nights: list[OneNight], what: str) -> float:
    """Seconds of wall_s or cpu_s that each night below adds, by least squares."""
    if len(nights) < 2:
        return 0.0
    return float(np.polyfit([n.night for n in nights], [getattr(n, what) for n in nights], 1)[0])


def main(given: argparse.Namespace) -> None:
    """Measure, print and store."""
    about = machine()
    with servers(given.keep) as place:
        empty, full, audited = whole_night(place, given.seed, given.events)
    with servers(given.keep / "history" if given.keep else None) as place:
        nights, audited_history = history(place, given.seed, given.nights, given.night_events)
    net_per_s = full.events / (full.wall_s - empty.wall_s) if full.wall_s > empty.wall_s else None
    note = f"{_rate(net_per_s)}; audit of {audited:,} rows: 0 differences"
    table(f"A night over {given.events:,} raw events", [shown(empty), shown(full)], note)
    slope, cpu_slope = slope_s(nights, "wall_s"), slope_s(nights, "cpu_s")
    mean_s = sum(n.wall_s for n in nights) / len(nights)
    slope_note = (
        f"slope: {1000 * slope:+.1f} ms per night of history, {100 * slope / mean_s:+.2f} % of a night ({mean_s:.2f} s),"
        f" {1000 * cpu_slope:+.1f} ms of it CPU;"
        f" audit of {audited_history:,} rows: 0 differences"
    )
    table(
        f"Nights of {given.night_events:,} events each", [shown(n) for n in nights if n.night - 1 in SHOWN], slope_note
    )
    sizes = {"events": given.events, "nights": given.nights, "night_events": given.night_events, "seed": given.seed}
    results = {"night_of_one_event": vars(empty), "night": vars(full), "net_events_per_s": net_per_s, "history": [vars(n) for n in nights],
               "slope_s_per_night": slope, "cpu_slope_s_per_night": cpu_slope,
               "audited_rows": audited + audited_history, "audit_differences": 0}  # fmt: skip
    save(given.out, "batch", about, sizes, results)
    title = f"A night of {given.night_events:,} events, by the nights below it: {1000 * slope:+.1f} ms a night"
    curve(
        given.out / "batch_history.png",
        title,
        [n.night - 1 for n in nights],
        [n.wall_s for n in nights],
        ("nights below", "s"),
        slope,
    )
    rates = {"with the start of Luigi": full.events_per_s} | ({"without": net_per_s} if net_per_s else {})
    bars(given.out / "batch.png", f"A night over {given.events:,} raw events", rates, "events/s", tuple(rates))


def _rate(net_per_s: float | None) -> str:
    if net_per_s is None:
        return "too few events to tell from a night over one event"
    return f"{net_per_s:,.0f} events/s, when what a night over one event takes is taken off"


def shown(night: OneNight) -> dict[str, Any]:
    """A row of the table: nights below it instead of its number."""
    return {"nights below": night.night - 1, **{k: v for k, v in vars(night).items() if k not in ("night", "below")}}
