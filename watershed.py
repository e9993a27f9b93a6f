"""The command line: `watershed COMMAND`. Packages are imported by the command that needs them.

Invariant: what a user can mend ends as one message on standard error and exit code 1; a traceback is a bug of ours.
"""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from one_heap import one_heap

one_heap()

from pipeline.base.errors import WatershedError  # noqa: E402 -- it imports pyarrow

app = typer.Typer(
    name="watershed",
    help="One definition, two layers, one answer: what Postgres serves equals, bit for bit, a recompute of the whole log.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


@app.command()
def init(
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Mend what was refused: a new generation from the master dataset, or what the lake lacks.")
    ] = False,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="With --rebuild: go on without records that neither the log nor the master dataset has.")
    ] = False,
    partitions: Annotated[int, typer.Option(min=1, help="Partitions of a topic that has to be made.")] = 4,
) -> None:
    """Make topics, tables, batch 0 and the SQL views. Safe to run again, also while everything runs."""
    from tasks.operator.init import init as run

    for generation in run(rebuild, partitions, typer.echo, accept_loss):
        views = ", ".join(f"serving.{name}" for name in generation.views)
        typer.echo(f"{generation.topic}: generation {generation.number}, {generation.partitions} partitions, {views}")


@app.command()
def speed(
    until_caught_up: Annotated[bool, typer.Option(help="Stop when all that was in the log at the start is committed.")] = False,
) -> None:
    """Run a worker of the speed layer. Run as many as you like; SIGTERM drains, commits and stops."""
    from speed_layer.signals import listen

    stop = listen()
    from speed_layer.run import main

    main(until_caught_up, stop)


@app.command()
def status(as_json: Json = False) -> None:
    """Positions, cuts, lag, workers and batches."""
    from serving.shown import status as run

    run(as_json)


@app.command()
def plan() -> None:
    """What the next night would do, and which targets are stale."""
    from tasks.operator.plan import plan as run

    run()


@app.command()
def audit(
    views: Annotated[list[str] | None, typer.Argument(help="Views to audit; all by default.")] = None,
    reference: Annotated[bool, typer.Option(help="Recompute with the independent plain-Python f, which shares no kernel.")] = False,
    as_json: Json = False,
    seed: Annotated[int | None, typer.Option(help="Seed of the block boundaries, to repeat an audit.")] = None,
    batch: Annotated[bool, typer.Option("--batch", help="Audit the visible batch alone, at its cut.")] = False,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="VECTOR",
            help="0:123,1:456: audit the visible batch merged with a refold up to these offsets, from its cut to the log's end.",
        ),
    ] = None,
) -> None:
    """Recompute from the log and compare every row and column with what Postgres serves. Exit 1 if any differs."""
    from serving.shown import audit as run

    raise typer.Exit(run(tuple(views or ()), reference, as_json, seed, at, batch))


@app.command()
def rollback(
    topic: Annotated[str | None, typer.Argument(help="The topic; needed when there are several.")] = None,
) -> None:
    """Undo the last publish of a topic: the batch before it is visible again, exact at once, also while workers run."""
    from tasks.operate import rollback as run

    run(topic, typer.echo)


@app.command()
def rebuild(
    views: Annotated[list[str] | None, typer.Argument(help="Views whose sources to refold; all by default.")] = None,
    from_start: Annotated[
        bool, typer.Option("--from-start", help="Replay the whole log for the identities, instead of believing those of the last batch.")
    ] = False,
) -> None:
    """Refold the real-time views of a source from the cut, while the old ones are served; then put them in their place."""
    from speed_layer.rebuild import rebuild as run

    run(tuple(views or ()), from_start, typer.echo)


@app.command()
def purge(
    keep: Annotated[int, typer.Option(min=1, help="Published batches to keep; with 1, the last publish cannot be undone any more.")] = 2,
) -> None:
    """Delete old batches, covered segments and the lake files that no kept batch needs. Every night does, keeping two."""
    from tasks.operate import purge as run

    run(keep, typer.echo)


@app.command()
def prove(
    views: Annotated[list[str] | None, typer.Argument(metavar="[VIEW]...", help="Views to try; all by default.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The first seed; a schedule is a function of its seed alone.")] = 0,
    schedules: Annotated[int, typer.Option(min=0, help="How many; 0 goes on until Ctrl-C, or a difference.")] = 200,
    partitions: Annotated[int, typer.Option(min=1)] = 2,
    workers: Annotated[int, typer.Option(min=1)] = 2,
    nights: Annotated[int, typer.Option(min=1, help="Night processes at once; some are twins, for one date.")] = 2,
    records: Annotated[int, typer.Option(min=1, help="Records of a partition, at most.")] = 26,
    decisions: Annotated[int, typer.Option(min=1, help="Steps of the scheduler in a schedule.")] = 260,
    jobs: Annotated[int, typer.Option(min=0, help="Processes; 0: as many as there are cores.")] = 0,
    sample: Annotated[int, typer.Option(min=0, help="Take the topic's newest so many records; 0 makes events from the schema.")] = 0,
) -> None:
    """Try to break your views: crashes, zombies, lost replies, twin nights, in memory, by seed. Exit 1 on any difference."""
    from pipeline.log.kafka.log import KafkaLog
    from pipeline.settings import Settings
    from simulation.prove import prove as run
    from simulation.world import Sizes

    sizes = Sizes(partitions, workers, nights, records, decisions)
    settings = Settings.load()
    log = KafkaLog(settings.kafka_connection()) if sample else None
    raise typer.Exit(run(settings.load_views(), views or (), seed, schedules, sizes, jobs, log, sample))


@app.command()
def demo(
    out: Annotated[Path | None, typer.Option(help="A new folder for its output; out/demo-<time> by default.")] = None,
    seed: Annotated[int, typer.Option(help="What goes wrong in the events, and when.")] = 2013,
    quick: Annotated[bool, typer.Option("--quick", hidden=True, help="Six weeks of weather instead of a year.")] = False,
) -> None:
    """Real weather through both layers, in under two minutes: history, nights, live events, and the audit."""
    from sandbox.demo import demo as run

    raise typer.Exit(run(out, seed, quick))


@app.command()
def up(
    with_weather: Annotated[bool, typer.Option("--with-weather", help="Also load a year of real weather and run a night.")] = False,
) -> None:
    """Start what is not set (Postgres, Kafka), luigid and a worker, and leave them running. Safe to run again."""
    from sandbox.up import up as run

    run(with_weather)


@app.command()
def down() -> None:
    """Stop what `watershed up` started in this folder. Data stays."""
    from sandbox.up import down as run

    run()


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; the console script's entry."""
    try:
        return app(arguments, standalone_mode=True)
    except WatershedError as error:
        typer.echo(f"watershed: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
