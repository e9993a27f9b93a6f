"""The demo on the terminal: what happens now, how fresh the answer is, and the batch part, the real-time part and the merged answer.

Invariant: all figures of one topic but the log's end are of one instant (serving.answers.by_layer); the log's end is read after them,
so a lag is never negative. Without a terminal the same story is told in plain lines.
"""

import threading
import time
from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sandbox.events import Kind
from sandbox.scene import Scene, Seen, Step
from sandbox.weather import STATIONS
from serving.answers import ByLayer

BATCH, SPEED, BOTH = "dodger_blue1", "dark_orange", "medium_orchid1"
BARS = "▁▂▃▄▅▆▇█"
COLDEST_C, WARMEST_C = -15.0, 35.0  # the range of the strip; daily means of the year lie within
LONGEST_MIN = 60.0  # of the strip's delays, from 0
SIGNS = {"waiting": ("·", "dim"), "running": ("▶", "bold"), "done": ("✔", "green"), "failed": ("✘", "bold red")}
WIDE, HIGH = 110, 40  # from here on there is room for everything
SAY_EVERY_S = 5.0
FRAMES_PER_S = 4  # a frame takes 30 ms, in the process that sends the events
EQUATIONS = (
    ("batch", BATCH, "f(log[0, cut))", "Luigi, Parquet, Dask and Numba"),
    ("real-time", SPEED, "f(log[cut, position))", "a worker on Kafka, always on"),
    ("merged", "bold", "batch ⊕ real-time = f(log[0, position))", "one SQL view in Postgres"),
)


# ---- the frame
class Frame:
    """A whole screen of the scene, fitted to the room there is."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width, height = options.max_width, options.height or console.height
        yield from console.render(
            self._wide() if width >= WIDE and height >= HIGH else self._small(width, height), options
        )

    def _wide(self) -> RenderableType:
        top = Table.grid(expand=True, padding=(0, 1))
        top.add_column(ratio=1)
        top.add_column(width=50)
        right = Group(freshness(self.scene), Text(), sent(self.scene.sent))
        # Room for the second lines of three steps that run at once, so that nothing below moves.
        now = Panel(
            steps(self.scene, len(self.scene.steps)), title="now", title_align="left", border_style="dim", height=17
        )
        top.add_row(now, right)
        return Group(
            Panel(equations(), title="[bold]Watershed", title_align="left", border_style="dim"),
            top,
            answers(self.scene.weather, narrow=False),
            Group(flights(self.scene.flights), carrier(self.scene)),
            strip(self.scene, 112),
        )

    def _small(self, width: int, height: int) -> RenderableType:
        lines: list[RenderableType] = [Text("Watershed: batch ⊕ real-time = merged, at every instant", "bold")]
        lines += [steps(self.scene, max(2, min(4, height - 21))), freshness_line(self.scene)]
        if height >= 24:
            lines.append(answers(self.scene.weather, narrow=True))
        lines.append(flights(self.scene.flights))
        if height >= 27:
            lines.append(carrier(self.scene))
        return Group(*lines, strip(self.scene, width - 7))


def equations() -> RenderableType:
    """The three equations, in the colours of the layers."""
    grid = Table.grid(padding=(0, 2))
    for name, style, formula, how in EQUATIONS:
        grid.add_row(Text(name, style), Text(f"= {formula}"), Text(how, "dim"))
    return grid


def steps(scene: Scene, room: int) -> RenderableType:
    """The steps, as many as there is room for around the running ones."""
    running = [n for n, s in enumerate(scene.steps) if s.state in ("running", "failed")]
    at = running[0] if running else sum(s.state == "done" for s in scene.steps)
    others = [n for n in (at - 1, *range(at, len(scene.steps)), *range(at - 2, -1, -1)) if n >= 0 and n not in running]
    shown = sorted((running + others)[:room])
    grid = Table.grid(padding=(0, 1), expand=True)
    grid.add_column(width=1)
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    grid.add_column(width=5, justify="right", no_wrap=True)
    for step in (scene.steps[n] for n in shown):
        sign, style = SIGNS[step.state]
        text = Text(f"{step.title:23}", style if step.state != "done" else "")
        text.append(step.detail if step.state == "done" else "", "dim")
        took = Text("" if step.state == "waiting" else f"{step.seconds:.0f} s", "dim")
        grid.add_row(Text(sign, style), text, took)
        if step.state == "running" and step.detail:
            grid.add_row("", _progress(step), "")
    return grid


def _progress(step: Step) -> RenderableType:
    line = Table.grid(padding=(0, 1))
    cells: list[RenderableType] = [Text(step.detail, "cyan", no_wrap=True, overflow="ellipsis")]
    if step.total:
        cells = [ProgressBar(step.total, step.done, width=20), *cells]
    line.add_row(*cells)
    return line


def freshness(scene: Scene) -> RenderableType:
    """One line for each partition, and one for each topic."""
    table = Table(box=None, padding=(0, 1, 0, 0), title="freshness, in offsets", title_style="dim", header_style="dim")
    table.add_column("partition", no_wrap=True, min_width=11)
    for name, style in (("cut", BATCH), ("position", SPEED), ("log end", ""), ("lag", "")):
        table.add_column(name, justify="right", style=style, no_wrap=True, min_width=9 if name != "lag" else 6)
    for name, seen in (("weather", scene.weather), ("flights", scene.flights)):
        if seen is None:
            table.add_row(name, "–", "–", "–", "–")
            continue
        for f, end in zip(seen.by_layer.freshness, seen.ends, strict=True):
            figures = (f.cut, f.position, end, max(0, end - f.position))
            table.add_row(f"{name} {f.partition}", *(f"{n:,}" for n in figures))
        figures = (seen.cut, seen.position, sum(seen.ends), seen.lag)
        table.add_row(f"{name} all", *(f"{n:,}" for n in figures), style="bold")
    return table


def freshness_line(scene: Scene) -> Text:
    """All partitions of all topics in one line."""
    looks = [seen for seen in (scene.weather, scene.flights) if seen is not None]
    if not looks:
        return Text("freshness  –", "dim")
    figures = (
        ("cut ", sum(seen.cut for seen in looks), BATCH),
        ("position ", sum(seen.position for seen in looks), SPEED),
        ("log end ", sum(sum(seen.ends) for seen in looks), ""),
        ("lag ", sum(seen.lag for seen in looks), ""),
    )
    text = Text("freshness  ", "dim")
    for name, value, style in figures:
        text.append(name, "dim").append(f"{value:,}   ", f"bold {style}".strip())
    return text


def flights(seen: Seen | None) -> Text:
    """Flights of serving.delays by layer, over all carriers."""
    text = Text("delays     ", "dim", no_wrap=True, overflow="ellipsis")
    batch, speed, merged = seen.counts if seen is not None else (0, 0, 0)
    text.append("batch ", "dim").append(f"{batch:,}", BATCH).append(" + real-time ", "dim").append(f"{speed:,}", SPEED)
    return text.append(" = merged ", "dim").append(f"{merged:,}", "bold").append(" flights", "dim")


def carrier(scene: Scene) -> Text:
    """Flights of the carrier that the table renames, under either name."""
    renamed, rows = scene.renamed, scene.flights.by_layer.merged if scene.flights is not None else []
    text = Text(f"carrier {renamed.carrier} ", "dim", no_wrap=True, overflow="ellipsis")
    for mark, name in (("", renamed.before), ("  →  ", renamed.after)):
        count = sum(r["flights"] for r in rows if r["carrier.name"] == name)
        text.append(f"{mark}{name} ", "dim").append(f"{count:,}", "bold")
    return text


def sent(counts: Mapping[Kind, int]) -> RenderableType:
    """Numbers of events sent so far, by what they were."""
    text = Text("sent  ", "dim")
    text.append(f"{sum(counts.values()):,}", "bold")
    for kind in Kind:
        if counts.get(kind):
            text.append(f"  {kind} ", "dim").append(f"{counts[kind]:,}")
    return text


def answers(seen: Seen | None, *, narrow: bool) -> RenderableType:
    """Per station: the whole time, and the newest day to which both layers contribute."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0 if narrow else 1))
    table.add_column("station", width=12)
    for name, style in (("batch", BATCH), ("real-time", SPEED), ("merged", "bold")):
        head, width = (name, 10) if narrow else (f"{name}: readings", 19)
        table.add_column(head, justify="right", style=style, header_style=style, width=width)
        table.add_column("°C", justify="right", style=style, header_style=style, width=11)
    layers = _by_station(seen.by_layer) if seen is not None else [{s: {} for s in STATIONS}] * 3
    for station in STATIONS:
        table.add_row(f"{station} all", *(cell for rows in layers for cell in _whole(rows[station])))
    for station in STATIONS:
        day = _seam(layers, station)
        if day is not None:
            table.add_row(f"{station} {day:%b %d}", *(cell for rows in layers for cell in _day(rows[station][day])))
        else:
            table.add_row(f"{station} –", *["–"] * 6, style="dim")
    return table


Rows = dict[str, dict[date, Mapping[str, Any]]]  # station -> day -> row


def _by_station(by_layer: ByLayer) -> list[Rows]:
    found: list[Rows] = []
    for rows in (by_layer.batch, by_layer.speed, by_layer.merged):
        mine: Rows = {station: {} for station in STATIONS}
        for row in rows:
            mine.setdefault(row["station"], {})[row["window_start"].date()] = row
        found.append(mine)
    return found


def _whole(days: Mapping[date, Mapping[str, Any]]) -> tuple[str, str]:
    """(readings, coldest to warmest) over all days; counts, minima and maxima are exact however they are grouped."""
    coldest = min((r["temperature_min"] for r in days.values() if r["temperature_min"] is not None), default=None)
    warmest = max((r["temperature_max"] for r in days.values() if r["temperature_max"] is not None), default=None)
    spread = "–" if coldest is None or warmest is None else f"{coldest:.0f} to {warmest:.0f}"
    return f"{sum(r['readings'] for r in days.values()):,}", spread


def _day(row: Mapping[str, Any]) -> tuple[str, str]:
    mean: Decimal | None = row["temperature_mean"]
    return f"{row['readings']:,}", "–" if mean is None else f"mean {mean:.2f}"


def _seam(layers: list[Rows], station: str) -> date | None:
    """The newest day of the station to which both layers contribute."""
    return max(layers[0][station].keys() & layers[1][station].keys(), default=None)


def strip(scene: Scene, cells: int) -> RenderableType:
    """The merged daily means over the year, a line for each station and one of delays, in the colour of the layer that they come from."""
    days = (scene.last_day - scene.first_day).days + 1
    per_cell = -(-days // max(1, cells))
    starts = [scene.first_day + timedelta(n) for n in range(0, days, per_cell)]
    layers = _by_station(scene.weather.by_layer) if scene.weather is not None else [{s: {} for s in STATIONS}] * 3
    lines: list[RenderableType] = []
    for station in STATIONS:
        text = Text(f"{station}    ")
        for start in starts:
            text.append(*_cell([rows[station] for rows in layers], [start + timedelta(n) for n in range(per_cell)]))
        lines.append(text)
    delays = Text("delay  ")
    for start in starts:
        delays.append(*_delay_cell(scene.flights, [start + timedelta(n) for n in range(per_cell)]))
    lines.append(delays)
    months = Text("       ", "dim")
    for n, start in enumerate(starts):
        if len(months) == n + 7:
            new = n == 0 or starts[n - 1].month != start.month
            months.append(f"{start:%b}" if new and n + 3 <= len(starts) else " ")
    legend = Text("       daily temperature and delay; answered by  ", "dim")
    legend.append("█ batch  ", BATCH).append("█ real-time  ", SPEED).append("█ both", BOTH)
    return Group(*lines, months, legend)


def _cell(layers: list[dict[date, Mapping[str, Any]]], days: list[date]) -> tuple[str, str]:
    """(character, style) of some days of one station."""
    batch, speed, merged = ([rows[d] for d in days if d in rows] for rows in layers)
    means = [float(r["temperature_mean"]) for r in merged if r["temperature_mean"] is not None]
    if not means:
        return "·", "dim"
    return _bar(sum(means) / len(means), COLDEST_C, WARMEST_C), _answered_by(bool(batch), bool(speed))


def _delay_cell(seen: Seen | None, days: list[date]) -> tuple[str, str]:
    """(character, style) of some days of all flights."""
    means, batch, speed = seen.delay_by_day if seen is not None else ({}, set(), set())
    of = [means[day] for day in days if day in means]
    if not of:
        return "·", "dim"
    return _bar(sum(of) / len(of), 0.0, LONGEST_MIN), _answered_by(
        *(not part.isdisjoint(days) for part in (batch, speed))
    )


def _bar(value: float, low: float, high: float) -> str:
    return BARS[max(0, min(len(BARS) - 1, int((value - low) / (high - low) * len(BARS))))]


def _answered_by(batch: bool, speed: bool) -> str:
    return BOTH if batch and speed else BATCH if batch else SPEED


# ---- on a terminal, or not
class Display:
    """As a context manager: shows the scene until its end, live on a terminal, else line by line."""

    def __init__(self, scene: Scene, console: Console) -> None:
        self.scene, self.console = scene, console
        self.live = console.is_terminal
        self._said_s = 0.0
        self._lock = threading.Lock()
        self._screen = Live(
            get_renderable=lambda: Frame(scene), console=console, screen=True, refresh_per_second=FRAMES_PER_S
        )

    def __enter__(self) -> "Display":
        if self.live:
            self._screen.start(refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._screen.stop()

    def begin(self, number: int) -> Step:
        """The step runs from now on; several can."""
        step = self.scene.steps[number]
        step.state, step.began_s = "running", time.monotonic()
        self.say(f"▶ {step.title}")
        return step

    def finish(self, number: int, detail: str) -> None:
        """The step is done; `detail` says what came of it."""
        step = self.scene.steps[number]
        step.show(detail)
        step.took_s, step.state = time.monotonic() - step.began_s, "done"
        self.say(f"✔ {step.title}: {detail} ({step.took_s:.1f} s)")

    def fail(self) -> None:
        """Show that what runs has failed."""
        for step in self.scene.steps:
            if step.state == "running":
                step.took_s, step.state = step.seconds, "failed"
                self.say(f"✘ {step.title} ({step.took_s:.1f} s)")

    def say(self, text: str) -> None:
        """A line, where there is no live display."""
        if not self.live:
            with self._lock:
                self.console.print(
                    f"{time.monotonic() - self.scene.began_s:5.1f} s  {text}",
                    markup=False,
                    highlight=False,
                    soft_wrap=True,
                )

    def see(self, weather: Seen, flights: Seen) -> None:
        """A new look at the serving layer."""
        self.scene.weather, self.scene.flights = weather, flights
        if time.monotonic() - self._said_s >= SAY_EVERY_S:
            self._said_s = time.monotonic()
            found = weather.by_layer
            readings = tuple(sum(r["readings"] for r in rows) for rows in (found.batch, found.speed, found.merged))
            for what, seen, (batch, speed, merged) in (
                ("readings", weather, readings),
                ("flights", flights, flights.counts),
            ):
                where = f"cut {seen.cut:,}, position {seen.position:,}, lag {seen.lag:,}"
                self.say(f"  {what}: batch {batch:,} + real-time {speed:,} = merged {merged:,}; {where}")
