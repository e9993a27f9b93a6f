"""The command line: `watershed COMMAND`. Packages are imported by the command that needs them.

Invariant: what a user can mend ends as one message on standard error and exit code 1; a traceback is a bug of ours.
"""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.errors import WatershedError

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
    rebuild: Annotated[bool, typer.Option(help="Start a new generation from the master dataset after a definition changed.")] = False,
    partitions: Annotated[int, typer.Option(min=1, help="Partitions of a topic that has to be made.")] = 4,
) -> None:
    """Make topics, tables, batch 0 and the SQL views. Safe to run again, also while everything runs."""
    from tasks.setup import init as run

    for generation in run(rebuild, partitions, typer.echo):
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
    from tasks.plan import plan as run

    run()


@app.command()
def audit(
    views: Annotated[list[str] | None, typer.Argument(help="Views to audit; all by default.")] = None,
    reference: Annotated[bool, typer.Option(help="Recompute with the independent plain-Python f, which shares no kernel.")] = False,
    as_json: Json = False,
    seed: Annotated[int | None, typer.Option(help="Seed of the block boundaries, to repeat an audit.")] = None,
) -> None:
    """Recompute from the log and compare every row and column with what Postgres serves. Exit 1 if any differs."""
    from serving.shown import audit as run

    raise typer.Exit(run(tuple(views or ()), reference, as_json, seed))


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
