"""The command line: `watershed COMMAND`. Packages are imported by the command that needs them.

Invariant: what a user can mend ends as one message on standard error and exit code 1; a traceback is a bug of ours.
"""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from console.commands import Commands
from one_heap import one_heap

one_heap()

app = typer.Typer(
    name="watershed",
    cls=Commands,
    help="One definition, two layers, one answer: what Postgres serves equals, bit for bit, a recompute of the whole log.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def prove(
    views: Annotated[
        list[str] | None, typer.Argument(metavar="[VIEW]...", help="Views to try; all by default.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The first seed; a schedule is a function of its seed alone.")] = 0,
    schedules: Annotated[int, typer.Option(min=0, help="How many; 0 goes on until Ctrl-C, or a difference.")] = 200,
    partitions: Annotated[int, typer.Option(min=1)] = 2,
    workers: Annotated[int, typer.Option(min=1)] = 2,
    nights: Annotated[int, typer.Option(min=1, help="Night processes at once; some are twins, for one date.")] = 2,
    records: Annotated[int, typer.Option(min=1, help="Records of a partition, at most.")] = 26,
    decisions: Annotated[int, typer.Option(min=1, help="Steps of the scheduler in a schedule.")] = 260,
    jobs: Annotated[int, typer.Option(min=0, help="Processes; 0: as many as there are cores.")] = 0,
    sample: Annotated[
        int, typer.Option(min=0, help="Take the topic's newest so many records; 0 makes events from the schema.")
    ] = 0,
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
    quick: Annotated[
        bool, typer.Option("--quick", hidden=True, help="Three weeks of weather, and nine days of flights.")
    ] = False,
) -> None:
    """Real weather and flights through both layers, in under two minutes: history, nights, a table that changes, and the audit."""
    from sandbox.extras import need

    need("matplotlib", "the demo's chart")
    from sandbox.demo import demo as run

    raise typer.Exit(run(out, seed, quick))


@app.command()
def up(
    with_weather: Annotated[
        bool, typer.Option("--with-weather", help="Also load a year of real weather and run a night.")
    ] = False,
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
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        from pipeline.base.errors import WatershedError  # what raised one has imported it; --help need not

        if not isinstance(error, WatershedError):
            raise
        typer.echo(f"watershed: {error.report()}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
