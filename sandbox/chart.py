"""The chart of the merged view: what it answers, and which layer each answer comes from.

Invariant: drawn from one look at the serving layer (serving.reading.Parts), so the layers in it add up.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import ConciseDateFormatter, MonthLocator, date2num
from matplotlib.figure import Figure

from serving.reading import Parts

BATCH, SPEED = "#3b82c4", "#f08c2e"
STATIONS = {"EWR": "#7a3e9d", "JFK": "#16836b", "LGA": "#c2334d"}
SIZE_INCHES, DPI = (13, 7.5), 120


def draw(parts: Parts, path: Path, title: str) -> None:
    """Daily mean temperature of each station over readings per day by layer, as a PNG; `parts` are of serving.daily_weather."""
    figure = Figure(figsize=SIZE_INCHES, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    figure.suptitle(title, fontsize=15, fontweight="bold", x=0.01, ha="left")
    _temperatures(above, parts)
    _readings(below, parts)
    seam = _first_real_time_alone(parts)
    if seam is not None:
        end = max(r["window_start"] for r in parts.merged) + timedelta(days=1)
        _mark(above, seam, end)
        _mark(below, seam, end, text=False)
    locator = MonthLocator()  # type: ignore[no-untyped-call]
    below.xaxis.set_major_locator(locator)
    below.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.25)
        axes.margins(x=0.01)
    figure.savefig(path, dpi=DPI)


def _temperatures(axes: Axes, parts: Parts) -> None:
    for station, colour in STATIONS.items():
        rows = sorted((r for r in parts.merged if r["station"] == station), key=lambda r: r["window_start"])
        means = [float("nan") if r["temperature_mean"] is None else float(r["temperature_mean"]) for r in rows]
        axes.plot([_day(r["window_start"]) for r in rows], means, color=colour, linewidth=1.1, label=station)
    axes.set_ylabel("daily mean temperature, °C")
    axes.legend(loc="upper left", ncols=3, frameon=False)


def _readings(axes: Axes, parts: Parts) -> None:
    batch, speed = _per_day(parts.batch), _per_day(parts.speed)
    days = sorted(batch.keys() | speed.keys())
    low, high = [batch.get(d, 0) for d in days], [speed.get(d, 0) for d in days]
    middle = [_day(d) + 0.5 for d in days]
    axes.bar(middle, low, width=1.0, color=BATCH, label="from the batch layer")
    axes.bar(middle, high, width=1.0, bottom=low, color=SPEED, label="from the real-time layer")
    axes.set_ylabel("readings per day")
    axes.legend(loc="lower left", ncols=2, framealpha=0.9)


def _per_day(rows: Sequence[Mapping[str, Any]]) -> dict[datetime, int]:
    found: dict[datetime, int] = {}
    for row in rows:
        found[row["window_start"]] = found.get(row["window_start"], 0) + row["readings"]
    return found


def _first_real_time_alone(parts: Parts) -> datetime | None:
    """The first day after the last one that the batch layer knows, if the real-time layer goes on from there."""
    if not parts.batch or not parts.speed:
        return None
    last = max(r["window_start"] for r in parts.batch)
    after = [r["window_start"] for r in parts.speed if r["window_start"] > last]
    return min(after, default=None)


def _mark(axes: Axes, day: datetime, end: datetime, *, text: bool = True) -> None:
    axes.axvline(_day(day), color="#444444", linewidth=1.2, linestyle=(0, (4, 3)))
    axes.axvspan(_day(day), _day(end), color=SPEED, alpha=0.08, linewidth=0)
    for words, colour, side, points in (("the batch layer ends here ◂", BATCH, "right", -6), ("▸ real-time alone", SPEED, "left", 6)):
        if text:
            axes.annotate(
                words, (_day(day), 1.0), (points, -2), xycoords=("data", "axes fraction"), textcoords="offset points",
                fontsize=10, va="top", ha=side, color=colour,
            )  # fmt: skip


def _day(moment: datetime) -> float:
    """As matplotlib counts days."""
    return float(date2num(moment))  # type: ignore[no-untyped-call]
