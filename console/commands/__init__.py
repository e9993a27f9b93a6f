"""The commands of `watershed`, a module each: parse, call, print. A command's module is imported when it is run, and not for --help.

listed(name) = the first line of the docstring of the command `name`        a test reads the modules
"""

from importlib import import_module
from keyword import iskeyword
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

LISTED = {
    "new": "Write a views module from a sample of a topic or a file: types, paths, key, identity, event time, a first view.",
    "try": "Run the declared views over a sample of a topic or a file, before anything is set up; no Postgres is asked.",
    "init": "Make topics, tables, batch 0 and the SQL views. Safe to run again, also while everything runs.",
    "load": "Load reference data: each table's next version, adopted by every view that looks it up, and shown in Postgres.",
    "speed": "Run a worker of the speed layer. Run as many as you like; SIGTERM drains, commits and stops.",
    "status": "Positions, cuts, lag, workers and batches.",
    "plan": "Show what the next night would do, and which targets are stale.",
    "audit": "Recompute from the log and compare every row and column with what Postgres serves. Exit 1 if any differs.",
    "rollback": "Undo the last publish of a topic: the batch before it is visible again, exact at once, also while workers run.",
    "rebuild": "Refold the real-time views of a source from the cut, while the old ones are served; then put them in their place.",
    "feed": "Send the new rows of the declared feeds onto their topics, each once, whatever is killed when.",
    "ingest": "Send the rows of files, or of standard input, onto a declared source's topic, with a progress bar.",
    "rejected": "Show rejected records, and rows that loads and feeds rejected: where they are, why, and how many of each reason.",
    "replay": "Send rejected records again, once, to the end of their partition; or take rejected rows of a load or a feed through, once.",
    "history": "Show lineage: which version of what was made when, from which files, query, cursor, log and definition.",
    "serve": "Serve the HTTP API: events pushed to /api/events/TOPIC. SIGTERM answers what was taken in, and stops.",
    "purge": "Delete old batches, covered segments and the lake files that no kept batch needs. Every night does, keeping two.",
}


class Commands(TyperGroup):
    """LISTED, and whatever is registered beside it, in that order."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*LISTED, *super().list_commands(ctx)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command as --help lists it: its name and one line; resolve_command gives the one that is run."""
        if cmd_name in LISTED:
            return TyperCommand(cmd_name, help=LISTED[cmd_name])
        return super().get_command(ctx, cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] in LISTED:
            return args[0], command_named(args[0]), args[1:]
        return super().resolve_command(ctx, args)


def command_named(name: str) -> Any:  # no command is named so: a module of a command is an attribute of this package
    """The command of that name, with its parameters; KeyError for a name that is none of LISTED."""
    LISTED[name]
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    called = f"{name}_" if iskeyword(name) else name  # `try` is a word of Python's
    module = import_module(f"console.commands.{called}")
    app.command(name)(getattr(module, called))
    return get_command(app)
