"""`watershed init`: what is missing is made; with --rebuild what was refused is mended."""

from typing import Annotated

import typer

from tasks.operator.init import init as run


def init(
    rebuild: Annotated[
        bool,
        typer.Option(
            "--rebuild", help="Mend what was refused: a new generation from the master dataset, or what the lake lacks."
        ),
    ] = False,
    accept_loss: Annotated[
        bool,
        typer.Option(
            "--accept-loss",
            help="With --rebuild: go on without records that neither the log nor the master dataset has.",
        ),
    ] = False,
    partitions: Annotated[int, typer.Option(min=1, help="Partitions of a topic that has to be made.")] = 4,
) -> None:
    """Make topics, tables, batch 0 and the SQL views. Safe to run again, also while everything runs."""
    for generation in run(rebuild, partitions, typer.echo, accept_loss):
        views = ", ".join(f"serving.{name}" for name in generation.views)
        typer.echo(f"{generation.topic}: generation {generation.number}, {generation.partitions} partitions, {views}")
