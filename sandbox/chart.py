"""The chart of the merged view: what it answers, and which layer each answer comes from.

Invariant: drawn from one look at the serving layer (serving.answers.ByLayer), so the layers in it add up.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, DayLocator, date2num
from matplotlib.figure import Figure

from serving.answers import ByLayer

BATCH, SPEED = "#3b82c4", "#f08c2e"
STATIONS = {"EWR": "#7a3e9d", "JFK": "#16836b", "LGA": "#c2334d"}
SIZE_INCHES, DPI = (13, 8), 120
AROUND = timedelta(days=14)


def draw(by_layer: ByLayer, path: Path) -> None:
    """The daily mean temperature of each station, and the days around the cut by layer, as a PNG; `by_layer` is serving.daily_weather."""
    figure = Figure(figsize=SIZE_INCHES, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, height_ratios=(5, 2))
    _temperatures(above, by_layer)
    seam = _seam(by_layer)
    _readings(below, by_layer, seam)
    for axes in (above, below):
        if seam is not None:
            _mark(axes, seam, words=axes is above)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.25)
    figure.suptitle(
        "serving.daily_weather: one view, two layers, one answer", fontsize=15, fontweight="bold", x=0.01, ha="left"
    )
    figure.savefig(path, dpi=DPI)


def _temperatures(axes: Axes, by_layer: ByLayer) -> None:
    for station, colour in STATIONS.items():
        rows = sorted((r for r in by_layer.merged if r["station"] == station), key=lambda r: r["window_start"])
        means = [float("nan") if r["temperature_mean"] is None else float(r["temperature_mean"]) for r in rows]
        axes.plot([_day(r["window_start"]) for r in rows], means, color=colour, linewidth=1.2, label=station)
    positions = ", ".join(f"{f.partition}: {f.cut:,} → {f.position:,}" for f in by_layer.freshness)
    axes.set_title(
        f"as of the offsets (cut → position, by partition)  {positions}", fontsize=9, color="#555555", loc="left"
    )
    axes.set_ylabel("daily mean temperature, °C")
    axes.legend(loc="upper left", ncols=3, frameon=False)
    axes.margins(x=0)
    _dates(axes, AutoDateLocator())  # type: ignore[no-untyped-call]


def _readings(axes: Axes, by_layer: ByLayer, seam: datetime | None) -> None:
    """Readings of a day to which both layers contribute: merging them is what makes the answer right."""
    batch, speed = _per_day(by_layer.batch), _per_day(by_layer.speed)
    days = sorted(batch.keys() | speed.keys())
    if seam is not None:
        days = [d for d in days if seam - AROUND <= d <= seam + AROUND]
    low, high = [batch[d] for d in days], [speed[d] for d in days]
    middle = [_day(d) + 0.5 for d in days]
    axes.bar(middle, low, width=0.85, color=BATCH, label="from the batch layer")
    axes.bar(middle, high, width=0.85, bottom=low, color=SPEED, label="from the real-time layer: newer, or late")
    for x, bottom, height in zip(middle, low, high, strict=True):
        if bottom and height:
            axes.annotate(
                f"+{height}",
                (x, bottom + height),
                (0, 2),
                textcoords="offset points",
                ha="center",
                fontsize=8,
                color=SPEED,
            )
    axes.set_ylabel("readings per day")
    axes.set_xlabel("the days around the cut" if seam is not None else "")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, borderaxespad=0.2)
    axes.margins(x=0.01)
    axes.set_ylim(0, 1.15 * max(map(sum, zip(low, high, strict=True)), default=1))
    _dates(axes, DayLocator(interval=2) if seam is not None else AutoDateLocator())  # type: ignore[no-untyped-call]


def _dates(axes: Axes, locator: AutoDateLocator | DayLocator) -> None:
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]


def _per_day(rows: Sequence[Mapping[str, Any]]) -> Counter[datetime]:
    found: Counter[datetime] = Counter()
    for row in rows:
        found[row["window_start"]] += row["readings"]
    return found


def _seam(by_layer: ByLayer) -> datetime | None:
    """The end of the last day that the batch layer knows, when both layers know something: the cut, in event time."""
    if not by_layer.batch or not by_layer.speed:
        return None
    last: datetime = max(r["window_start"] for r in by_layer.batch)
    return last + timedelta(days=1)


def _mark(axes: Axes, seam: datetime, *, words: bool) -> None:
    left, right = axes.get_xlim()
    axes.axvline(_day(seam), color="#444444", linewidth=1.2, linestyle=(0, (4, 3)))
    axes.axvspan(_day(seam), max(right, _day(seam)), color=SPEED, alpha=0.08, linewidth=0)
    axes.set_xlim(left, right)
    for text, colour, side, points in (
        ("the batch layer reaches to here ◂", BATCH, "right", -6),
        ("▸ real-time", SPEED, "left", 6),
    ):
        if words:
            axes.annotate(
                text, (_day(seam), 1.0), (points, -2), xycoords=("data", "axes fraction"), textcoords="offset points",
                fontsize=10, va="top", ha=side, color=colour,
            )  # fmt: skip


def _day(moment: datetime) -> float:
    """As matplotlib counts days."""
    return float(date2num(moment))  # type: ignore[no-untyped-call]
