"""`watershed up` and `watershed down`: what is not set, luigid and a worker, running in the background of this folder.

    up ; up = up        down stops exactly what `up` started: a process is ours while its id and its time of birth are those noted

What was started is noted in .watershed/pids.json at once. Its addresses are in .watershed/services.env, which every command run in this
folder reads last, with the views module and whatever else only this terminal's environment says, secrets apart. The embedded broker
keeps its log in memory: when it has ended, the next `up` begins anew in a fresh folder, and the data of the time before stays where it is.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime
from itertools import count
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from pipeline.base.errors import SettingsError
from pipeline.definition.views_module import load_views
from pipeline.handover import Cut
from pipeline.kernels import cache
from pipeline.kernels.compiling import compile_all
from pipeline.log.kafka.connection import KafkaConnection
from pipeline.log.kafka.log import KafkaLog
from pipeline.settings import SERVICES
from pipeline.warm_up import cold
from sandbox.embedded_broker import EmbeddedBroker
from sandbox.postgres import EmbeddedPostgres
from sandbox.processes import (
    LOOPBACK,
    Child,
    PortTakenError,
    ServerError,
    port_answers,
    start_on_free_ports,
    stop_pid,
    wait_until,
)
from sandbox.running import STATE, State, alone, write_services
from sandbox.services import (
    Given,
    GivenBefore,
    Place,
    Sender,
    finished,
    free_night,
    night_progress,
    night_tasks,
    noted_before,
    of_this_terminal,
    program,
    refuse_used_lake,
    run,
    whole,
)
from sandbox.summary import near
from sandbox.weather import readings, spread
from serving.postgres.connection import engine, parse_url, place
from serving.status import status

LUIGID_PORT = 8082  # where luigi looks by itself
LIMIT_S = 120.0
WORKER_STOP_LIMIT_S = 40.0
WEATHER_TOPIC, HISTORY_UNTIL = "weather.observations", "2013-10-01"
ORDER = ("worker", "luigid", "broker", "postgres")  # of stopping: first what depends on the others


def up(with_weather: bool = False) -> None:
    """Start what does not run yet and print where everything is; `with_weather` loads real weather and runs a night."""
    console = Console(highlight=False, soft_wrap=True)
    bars = Bars(console)
    with alone(), bars.progress:
        given, state = GivenBefore(), State.read()
        if "broker" in state.processes and state.running("broker") is None:
            _stop(state, console)  # its log is gone, and with it what the rest was for
            state = State()
        where = _start_servers(given, state, bars)
        _start_worker(where, state, bars)
        _start_luigid(where, state, bars)
        _note(given, where, state)  # now with luigid's address
        if with_weather:
            _load_weather(where, state, bars)
        if len(bars.done) == 1:
            console.print("Everything runs already.")
    _tell(console, where, state)


def down() -> None:
    """Stop what `up` started; data stays."""
    console = Console(highlight=False, soft_wrap=True)
    with alone():
        state = State.read()
        if not state.processes:
            console.print("Nothing that `watershed up` started in this folder runs.")
            return
        _stop(state, console)
    console.print(f"The data stays in {near(state.data)}.")
    if "broker" in state.processes:
        console.print(
            "The embedded broker held its log in memory: the next `watershed up` begins anew, in a fresh folder."
        )


# ---- starting
def _start_servers(given: Given, state: State, bars: "Bars") -> Place:
    """Postgres and Kafka where they are not given; topics, tables and views; and services.env for the other commands."""
    given.refuse_security_for_nobody()
    own = {"kafka": given.kafka is not None, "postgres": given.postgres is not None}
    _refuse_forgotten(own, state)
    fresh = not state.data
    if fresh:
        # A broker that forgets cannot go on with a Postgres and a lake that remember: they begin together.
        name = "data" if own["kafka"] else f"{datetime.now().astimezone():%Y%m%d-%H%M%S}"
        state.data = str((STATE / name).absolute())
    data = Path(state.data)
    lake = whole(given.lake) if "lake" in given.model_fields_set or own["postgres"] else str(data / "lake")
    if fresh and not own["kafka"]:
        refuse_used_lake(lake)
    server = EmbeddedPostgres(data / "postgres", keep=True)
    if not own["postgres"] and not server.runs:
        with bars.doing("Postgres starts"):
            server.start()
            state.note("postgres", server.pid, str(server.folder), server.log)
    postgres = given.postgres_url() if own["postgres"] else server.url
    if not own["kafka"] and state.running("broker") is None:
        with bars.doing("Kafka starts"):
            broker = EmbeddedBroker(data, keep=True).start()
            state.note("broker", broker.pid, broker.bootstrap, broker.log)
    kafka = given.kafka_connection() if own["kafka"] else KafkaConnection(state.processes["broker"].where)
    where = Place(kafka, postgres, lake, given.views)
    serves = {"kafka": kafka.bootstrap, "postgres": place(parse_url(postgres)), "lake": lake, "views": given.views}
    if state.serves and state.serves != serves:
        changed = ", ".join(name for name in serves if state.serves.get(name) != serves[name])
        raise SettingsError(
            f"what runs here was started with other settings ({changed}): run `watershed down`, then `watershed up`"
        )
    state.serves = serves
    data.mkdir(parents=True, exist_ok=True)
    state.write()
    _note(given, where, state)
    _compile(given, bars)
    with bars.doing("topics, tables and views are made"):
        run(where.watershed("init", log=data / "init.log"), LIMIT_S)
    return where


def _refuse_forgotten(own: Mapping[str, bool], state: State) -> None:
    """SettingsError when what runs works on a server of the user's whose address holds a secret, and this terminal does not know it."""
    for name, process in (("kafka", "broker"), ("postgres", "postgres")):
        if state.serves and not own[name] and process not in state.processes:
            raise SettingsError(
                f"what runs here was started on your {name} at {state.serves[name]}, whose address is not noted, for it holds a secret:"
                f" set WATERSHED_{name.upper()} here too, or run `watershed down`, then `watershed up`"
            )


def _note(given: Given, where: Place, state: State) -> None:
    """Write down what commands in other terminals need: what was started, and what is set in this terminal alone; no secret."""
    needed, _ = of_this_terminal(os.environ)
    before = {name.upper(): value for name, value in noted_before(state).items()}
    state.given = sorted(before | needed)
    started = {"WATERSHED_LAKE": where.lake, "WATERSHED_VIEWS": where.views}
    if "broker" in state.processes:
        started["WATERSHED_KAFKA"] = where.kafka.bootstrap
    if "postgres" in state.processes:
        started["WATERSHED_POSTGRES"] = where.postgres
    if state.running("luigid") is not None and given.lake_url is None:
        started["WATERSHED_LAKE_URL"] = f"{state.processes['luigid'].where}/lake"
    state.write()
    write_services(before | needed | started)


def _compile(given: Given, bars: "Bars") -> None:
    """Compile what the views need, where nobody has done so yet; the commands that follow load it."""
    cache.keep_in(given.kernel_cache)
    kernels = cold(load_views(given.views))
    if kernels:
        with bars.doing("kernels are compiled, once", len(kernels)) as show:
            begun = count()
            compile_all(kernels, lambda title: show(next(begun), title))


def _start_worker(where: Place, state: State, bars: "Bars") -> None:
    if state.running("worker") is not None:
        return
    log = Path(state.data) / "speed.log"
    with bars.doing("a worker of the speed layer starts"):
        child = where.worker(log)
        state.note("worker", child.pid, "", log)
        database = engine(where.postgres, application_name="watershed up")
        try:
            child.await_ready(
                lambda: any(f":{child.pid}:" in w for names in status(database).workers.values() for w in names),
                LIMIT_S,
            )
        finally:
            database.dispose()


def _start_luigid(where: Place, state: State, bars: "Bars") -> None:
    """On the port where luigi looks by itself, else on a free one; it has no authentication: loopback only."""
    if state.running("luigid") is not None:
        return
    log = Path(state.data) / "luigid.log"

    def launch(port: int) -> Child:
        options = ["--address", LOOPBACK, "--port", str(port), "--state-path", str(Path(state.data) / "luigid.state")]
        child = where.command("luigid", ["-m", "tasks.luigid", *options], log)
        try:
            child.await_ready(lambda: port_answers(port), LIMIT_S)
        except BaseException:
            child.kill()
            raise
        state.note("luigid", child.pid, f"http://{LOOPBACK}:{port}", log)
        return child

    with bars.doing("luigid starts"):
        try:
            if port_answers(LUIGID_PORT):
                raise PortTakenError(f"port {LUIGID_PORT} is taken")
            launch(LUIGID_PORT)
        except PortTakenError:
            start_on_free_ports(1, lambda ports: launch(ports[0]))


def scheduler(state: State) -> tuple[str, ...]:
    """Arguments that tell luigi where to find luigid."""
    port = int(state.processes["luigid"].where.rpartition(":")[2])
    return () if port == LUIGID_PORT else ("--scheduler-port", str(port))


def _load_weather(where: Place, state: State, bars: "Bars") -> None:
    """History, a night over it by way of luigid, then the rest of the year for the real-time layer; once is enough."""
    log = KafkaLog(where.kafka)
    database = engine(where.postgres, application_name="watershed up")
    sender = Sender(where.kafka)
    try:
        if sum(log.end_offsets(WEATHER_TOPIC)):
            return
        rows = readings()
        _send(
            sender,
            "nine months of real weather are sent",
            [r for r in rows if r["observed_at"] < HISTORY_UNTIL],
            1,
            bars,
        )
        _run_night(where, state, status(database).ledger[WEATHER_TOPIC], bars)
        _send(sender, "three more months are sent", [r for r in rows if r["observed_at"] >= HISTORY_UNTIL], 2, bars)
        ends = log.end_offsets(WEATHER_TOPIC)

        def caught_up() -> bool:
            reached = {p.partition: p.position for p in status(database).partitions if p.topic == WEATHER_TOPIC}
            return all(reached[p] >= end for p, end in enumerate(ends))

        with bars.doing("the speed layer catches up"):
            if not wait_until(caught_up, LIMIT_S):
                raise ServerError(
                    f"the speed layer did not reach the log's end within {LIMIT_S:g} s; see {state.processes['worker'].log}"
                )
    finally:
        sender.close()
        log.close()
        database.dispose()


def _send(sender: Sender, what: str, rows: list[dict[str, Any]], seed: int, bars: "Bars") -> None:
    events = list(spread(rows, seed))
    with bars.doing(what, len(events)) as show:
        for n, event in enumerate(events):
            sender.send(WEATHER_TOPIC, event)
            show(n, "")
        sender.flush()


def _run_night(where: Place, state: State, ledger: list[Cut], bars: "Bars") -> None:
    day = free_night(date.fromisoformat(HISTORY_UNTIL), ledger)
    tasks = night_tasks((len(ledger[0].offsets), len(load_views(where.views))))
    with bars.doing("a night runs, by way of luigid", tasks) as show:
        night = where.night(day, Path(state.data) / "night.log", scheduler(state))

        def over() -> bool:
            show(*night_progress(night))
            return finished(night)

        try:
            if not wait_until(over, LIMIT_S, slowest_poll_s=0.3):
                raise ServerError(f"{night.name} did not end within {LIMIT_S:g} s; see {night.log}")
        finally:
            night.stop()


# ---- stopping
def _stop(state: State, console: Console) -> None:
    """End what runs of it, by process id; forget it."""
    for name in sorted(state.processes, key=ORDER.index):
        process = state.processes[name]
        if not process.runs:
            console.print(f"{name}: had ended before")
        elif name == "postgres":
            EmbeddedPostgres(process.where).stop()
            console.print(f"{name}: stopped (process {process.pid})")
        else:
            graceful = stop_pid(process.pid, limit_s=WORKER_STOP_LIMIT_S)
            console.print(
                f"{name}: {'stopped' if graceful else 'killed, as it did not stop by itself'} (process {process.pid})"
            )
    Path(SERVICES).unlink(missing_ok=True)
    (STATE / "pids.json").unlink(missing_ok=True)


# ---- telling
def _tell(console: Console, where: Place, state: State) -> None:
    """Tell what runs where, and what to do with it."""
    mine = state.processes
    postgres = f"yours, {place(parse_url(where.postgres))}"
    if "postgres" in mine:
        postgres = f"embedded, its socket in {near(mine['postgres'].where)}"
    rows = {
        "Kafka": f"{'embedded, in memory' if 'broker' in mine else 'yours'}, {where.kafka.bootstrap}",
        "Postgres": postgres,
        "speed layer": f"one worker, process {mine['worker'].pid}, its log {near(mine['worker'].log)}",
        "Luigi's UI": mine["luigid"].where,
        "lake": near(where.lake),
        "views": f"{where.views}: {', '.join(view.name for view in load_views(where.views))}",
    }
    console.print()
    for what, at in rows.items():
        console.print(f"{what:13}[bold]{at}[/]")
    console.print("\nNow, in this folder:")
    luigi, watershed = program("luigi"), program("watershed")
    today = datetime.now(UTC).date()
    commands = [
        (f"{watershed} status", "positions, cuts, lag, workers"),
        (
            " ".join([luigi, "--module tasks Nightly --date", str(today), *scheduler(state)]),
            "a night, to be seen in Luigi's UI",
        ),
        (f"{watershed} audit", "recompute the log and compare"),
        (f"{watershed} down", "stop what was started"),
    ]
    if secrets := of_this_terminal(os.environ)[1]:
        console.print(f"In another terminal set {', '.join(secrets)} too: secrets are not written down.")
    if "postgres" in state.processes:
        commands.insert(1, (f"psql '{where.postgres}' -c 'TABLE serving.freshness'", "SQL, with any client"))
    for command, what in commands:
        console.print(f"  [dim]# {what}[/]\n  {command}")


class Bars:
    """A bar for what takes time, where there is a terminal; a line when it is done, everywhere."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.done: list[str] = []
        words = TextColumn("{task.description}"), TextColumn("[dim]{task.fields[doing]}")
        columns = (SpinnerColumn(), words[0], BarColumn(), TimeElapsedColumn(), words[1])
        self.progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)

    @contextmanager
    def doing(self, what: str, total: int | None = None) -> Iterator[Callable[[int, str], None]]:
        """`what` goes on until the end of the block, which may call (done, what it does now)."""
        task = self.progress.add_task(what, total=total, doing="")
        began_s = time.monotonic()
        yield lambda done, doing: self.progress.update(task, completed=done, doing=doing)
        self.progress.remove_task(task)
        self.done.append(what)
        self.console.print(f"[green]✔[/] {what} ({time.monotonic() - began_s:.1f} s)")
