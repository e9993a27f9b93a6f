"""`watershed purge`: old batches and covered segments let go of, topic by topic."""

from typing import Annotated

import typer

from pipeline.base.errors import WatershedError
from tasks.context import context
from tasks.night.purge import purge as purge_topic


def purge(
    keep: Annotated[
        int, typer.Option(min=1, help="Published batches to keep; with 1, the last publish cannot be undone any more.")
    ] = 2,
) -> None:
    """Delete old batches, covered segments and the lake files that no kept batch needs. Every night does, keeping two."""
    parts = context()
    failed: WatershedError | None = None  # all topics are tried, and the first that failed is raised
    for topic in parts.topics:
        try:
            typer.echo(str(purge_topic(parts, topic, keep)))
        except WatershedError as error:
            failed = failed or error
    if failed is not None:
        raise failed
