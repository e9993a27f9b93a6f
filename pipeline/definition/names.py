"""Names that a user gives: to views, columns and aggregates.

    a name accepted here  =>  init, commits and selects take it in Postgres, and every file name and folder takes it too

Postgres holds 63 bytes of a name. The longest that we make of one is the index `<view>__g<generation>_segment`.
"""

import re

from pipeline.base.errors import DefinitionError

NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")  # no "__": it separates an aggregate from its state's fields
NAME_LIMIT = 40  # a Postgres identifier holds 63 bytes: room for suffixes
# Of tables of states, beside the key columns
OUR_COLUMNS = frozenset({"window_start", "batch", "partition", "segment"})
SYSTEM_COLUMNS = frozenset({"ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"})  # every table of Postgres has them
# That `init` makes in schema serving, beside the user's
OUR_VIEWS = frozenset({"freshness", "accounting", "view_accounting"})


def check_name(name: object, what: str) -> str:
    """`name` if it may stand in Postgres and in file names without quoting; else DefinitionError."""
    if not isinstance(name, str) or not NAME.fullmatch(name) or len(name) > NAME_LIMIT:
        raise DefinitionError(
            f"{what} is named {name!r}; allowed are lower-case letters, digits and single underscores,"
            f" starting with a letter, at most {NAME_LIMIT} characters"
        )
    return name


def check_view_name(name: object) -> str:
    """`name` if a view may have it."""
    if check_name(name, "View") in OUR_VIEWS:
        raise DefinitionError(
            f"View is named {name!r}: serving.{name} is Watershed's own, as are {_listed(OUR_VIEWS)}; rename it"
        )
    return str(name)


def check_table_name(name: object) -> str:
    """`name` if a table of reference data may have it."""
    return check_name(name, "Table")


def check_table_column(name: str, what: str) -> None:
    """DefinitionError when a table of states has a column of this name already: one of Postgres's own, or of ours."""
    if name in SYSTEM_COLUMNS:
        raise DefinitionError(
            f"{what} has the name of a system column of Postgres ({_listed(SYSTEM_COLUMNS)}); give it another"
        )
    if name in OUR_COLUMNS:
        raise DefinitionError(
            f"{what} has a name that the views use themselves ({_listed(OUR_COLUMNS)}); give it another"
        )


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(names))
