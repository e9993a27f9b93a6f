"""`watershed speed`: a worker. Signals are listened to before anything heavy is imported, so that none is missed."""

from typing import Annotated

import typer

from speed_layer.signals import listen


def speed(
    until_caught_up: Annotated[
        bool, typer.Option(help="Stop when all that was in the log at the start is committed.")
    ] = False,
) -> None:
    """Run a worker of the speed layer. Run as many as you like; SIGTERM drains, commits and stops."""
    stop = listen()
    from speed_layer.run import main

    main(until_caught_up, stop)
