"""The chart of the merged views: what they answer, weather beside delays, and which layer each answer comes from.

Invariant: each view is drawn from one look at the serving layer (serving.answers.ByLayer), so the layers in it add up.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure

from sandbox.scene import Renamed
from serving.answers import ByLayer

BATCH, SPEED = "#3b82c4", "#f08c2e"
STATIONS = {"EWR": "#7a3e9d", "JFK": "#16836b", "LGA": "#c2334d"}
ALL, BEFORE, AFTER = "#8a8f98", "#0f766e", "#be185d"  # delays: of all carriers, and of one under either name
SKY, SKIES = "#64748b", ("fair", "wind", "rain or snow", "poor visibility")
FEWEST = 5  # flights of a day that have a mean to be drawn
SIZE_INCHES, DPI = (15, 11), 120
Rows = Sequence[Mapping[str, Any]]


def draw(weather: ByLayer, delays: ByLayer, by_weather: ByLayer, renamed: Renamed, path: Path) -> None:
    """The days of the flights as a PNG: temperatures, delays, the renamed carrier's flights under either name, all flights by layer.

    Beside them delays by the weather of the hour, over all days. The looks are at serving.daily_weather, delays and delays_by_weather.
    """
    figure = Figure(figsize=SIZE_INCHES, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    left, right = figure.subfigures(1, 2, width_ratios=(4, 1), squeeze=False)[0]
    panels = left.subplots(4, 1, sharex=True, height_ratios=(4, 4, 2.2, 2.2))
    days = sorted({r["window_start"] for r in delays.merged})
    _temperatures(panels[0], weather, days)
    _delays(panels[1], delays, renamed)
    _names(panels[2], delays, renamed)
    _layers(panels[3], delays)
    seam = _seam(delays)
    for axes in panels:
        axes.margins(x=0)
        if seam is not None:
            _mark(axes, seam, words=axes is panels[0])
    _dates(panels[-1])
    left.align_ylabels()
    beside = right.subplots(2, 1)
    _by_sky(beside, by_weather)
    for axes in (*panels, *beside):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.25)
    figure.suptitle(
        "Weather beside delays: one definition, two layers, one answer",
        fontsize=15,
        fontweight="bold",
        x=0.01,
        ha="left",
    )
    figure.savefig(path, dpi=DPI)


def _temperatures(axes: Axes, weather: ByLayer, days: Sequence[datetime]) -> None:
    for station, colour in STATIONS.items():
        rows = [
            r for r in weather.merged if r["station"] == station and days and days[0] <= r["window_start"] <= days[-1]
        ]
        rows.sort(key=lambda r: r["window_start"])
        means = [float("nan") if r["temperature_mean"] is None else float(r["temperature_mean"]) for r in rows]
        axes.plot(_middles(r["window_start"] for r in rows), means, color=colour, linewidth=1.4, label=station)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.12 * (high - low))  # room for the words at the cut
    axes.set_ylabel("daily mean\ntemperature, °C")
    _legend(axes, "serving.daily_weather")


def _delays(axes: Axes, delays: ByLayer, renamed: Renamed) -> None:
    """Mean departure delays of a day: over all carriers, and of one under the two names that it had."""
    shown = {
        "all carriers": (delays.merged, ALL, 2.6),
        **{
            name: ([r for r in delays.merged if r["carrier.name"] == name], colour, 1.6)
            for name, colour in ((renamed.before, BEFORE), (renamed.after, AFTER))
        },
    }
    for name, (rows, colour, width) in shown.items():
        means = _means(rows, at_least=FEWEST)
        axes.plot(_middles(means), list(means.values()), "o-", color=colour, linewidth=width, markersize=3, label=name)
    axes.set_ylabel("mean departure\ndelay, minutes")
    _legend(axes, "serving.delays")


def _means(rows: Rows, by: str = "window_start", at_least: int = 1) -> dict[Any, float]:
    """day -> mean delay of the flights that departed, where there are so many; a mean of means, by how many they are of."""
    total, departed = defaultdict[Any, float](float), defaultdict[Any, float](float)
    for row in rows:
        if row["departure_delay_mean"] is not None and row[by] is not None:
            count = float(row["flights"]) * (1 - float(row["cancelled_share"]))
            departed[row[by]] += count
            total[row[by]] += count * float(row["departure_delay_mean"])
    return {one: total[one] / departed[one] for one in sorted(departed) if departed[one] >= at_least}


def _by_sky(panels: Sequence[Axes], by_weather: ByLayer) -> None:
    """Mean delay, and share of what was cancelled, by the weather of the hour; from the fairest to the worst."""
    delays = _means(by_weather.merged, "sky")
    flights, cancelled = Counter[str](), defaultdict[str, float](float)
    for row in by_weather.merged:
        if row["sky"] is not None:
            flights[row["sky"]] += int(row["flights"])
            cancelled[row["sky"]] += float(row["flights"]) * float(row["cancelled_share"])
    shares = {sky: 100 * cancelled[sky] / count for sky, count in flights.items()}
    for axes, values, what in (
        (panels[0], delays, "mean departure delay, minutes"),
        (panels[1], shares, "cancelled, %"),
    ):
        shown = [sky for sky in SKIES if sky in values]
        bars = axes.bar([sky.replace(" ", "\n") for sky in shown], [values[sky] for sky in shown], color=SKY, width=0.7)
        axes.bar_label(bars, fmt="%.1f", fontsize=9)
        axes.tick_params(axis="x", labelsize=9)
        axes.set_ylabel(what)
        axes.set_title("delays_by_weather: the hour's sky", fontsize=9, color="#555555", loc="right")


def _names(axes: Axes, delays: ByLayer, renamed: Renamed) -> None:
    """Flights of the renamed carrier: a late one has the name that is in force when it comes."""
    before, after = (
        _per_day([r for r in delays.merged if r["carrier.name"] == name]) for name in (renamed.before, renamed.after)
    )
    _stack(
        axes,
        (before, BEFORE, renamed.before),
        (after, AFTER, f"{renamed.after}, from the cut that adopts it on, whatever the date"),
    )
    axes.set_ylabel(f"flights of {renamed.carrier}\nper day")
    _legend(axes, "by the table's name")


def _layers(axes: Axes, delays: ByLayer) -> None:
    """Flights of a day by layer: days to which both contribute are those where merging makes the answer right."""
    _stack(
        axes,
        (_per_day(delays.batch), BATCH, "from the batch layer"),
        (_per_day(delays.speed), SPEED, "from the real-time layer: newer, or late"),
    )
    axes.set_ylabel("flights\nper day")
    _legend(axes, "by layer")
    positions = ", ".join(f"{f.partition}: {f.cut:,} → {f.position:,}" for f in delays.freshness)
    axes.set_xlabel(f"as of the offsets (cut → position, by partition)  {positions}", fontsize=9, color="#555555")


def _stack(axes: Axes, *parts: tuple[Counter[datetime], str, str]) -> None:
    days = sorted(set().union(*(part for part, _, _ in parts)))
    below = [0] * len(days)
    for part, colour, label in parts:
        counts = [part[day] for day in days]
        axes.bar(_middles(days), counts, width=0.85, bottom=below, color=colour, label=label)
        below = [low + count for low, count in zip(below, counts, strict=True)]
    axes.set_ylim(0, 1.1 * max(below, default=1))


def _legend(axes: Axes, title: str) -> None:
    """Above the panel, beside its title, where it covers nothing."""
    axes.set_title(title, fontsize=9, color="#555555", loc="right")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, borderaxespad=0.2, fontsize=9)


def _dates(axes: Axes) -> None:
    locator = AutoDateLocator()  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]


def _per_day(rows: Rows) -> Counter[datetime]:
    found: Counter[datetime] = Counter()
    for row in rows:
        found[row["window_start"]] += int(row["flights"])
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
    axes.axvspan(_day(seam), max(right, _day(seam)), color=SPEED, alpha=0.08, linewidth=0, zorder=-1)
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


def _middles(days: Any) -> list[float]:
    """The middles of days, as matplotlib counts them."""
    return [_day(day) + 0.5 for day in days]


def _day(moment: datetime) -> float:
    return float(date2num(moment))  # type: ignore[no-untyped-call]
