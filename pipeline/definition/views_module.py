"""The views module: an importable module of the user's that declares VIEWS, read and checked.

    load_views(m) gives views  =>  at least one, names all different, one Source for each topic

Whatever its import raises is the user's to mend: one line that names file and line.
"""

import ast
import importlib
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from pipeline.base.declared import innermost, place
from pipeline.base.errors import DefinitionError, SettingsError, did_you_mean
from pipeline.definition.source import Source
from pipeline.definition.table import Table
from pipeline.definition.view import View


def load_views(module: str) -> tuple[View, ...]:
    """The tuple VIEWS of an importable module; DefinitionError when it is not what it must be."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # as luigi --module does
    if not module or module.startswith(".") or "/" in module or module.endswith(".py"):
        example = module.removesuffix(".py").strip("./").replace("/", ".") or "views"
        raise SettingsError(
            f"`views` (WATERSHED_VIEWS) is {module!r}; allowed is the name of an importable module, as `{example}`"
        )
    found = _imported(module, here)
    views = getattr(found, "VIEWS", None)
    if views is None:
        other = [name for name in vars(found) if name.upper() == "VIEWS"]
        hint = f"; it has {other[0]!r}" if other else ""
        raise _wrong(found, f"declares no VIEWS{hint}; write VIEWS = (view, ...), a tuple of View values")
    if isinstance(views, View):
        raise _wrong(found, f"has VIEWS = {views.name}, one View; a tuple of one has a comma: VIEWS = ({views.name},)")
    if not isinstance(views, tuple) or not views:
        raise _wrong(
            found, f"has VIEWS = {_short(views)}; allowed is a tuple of at least one View: VIEWS = (view, ...)"
        )
    for number, view in enumerate(views):
        if not isinstance(view, View):
            raise _wrong(found, f"has VIEWS[{number}] = {_short(view)}, which is no View")
    names = [v.name for v in views]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise _wrong(found, f"has two views named {twice[0]!r}; rename one")
    by_topic: dict[str, Source] = {}
    for view in views:
        if by_topic.setdefault(view.source.topic, view.source) != view.source:
            raise _wrong(found, f"has two different Sources for topic {view.source.topic!r}; a topic has one")
    return views


def load_tables(module: str) -> tuple[Table, ...]:
    """The tables of an importable module: TABLES, and those that its views look up; no two of one name."""
    views = load_views(module)
    found = sys.modules[module]
    given = getattr(found, "TABLES", ())
    if not isinstance(given, tuple) or not all(isinstance(one, Table) for one in given):
        raise _wrong(found, f"has TABLES = {_short(given)}; allowed is a tuple of Table values: TABLES = (table, ...)")
    tables: dict[str, Table] = {}
    for one in [*given, *(lookup.table for view in views for lookup in view.lookups.values())]:
        if tables.setdefault(one.name, one) != one:
            raise _wrong(found, f"has two different tables named {one.name!r}; rename one")
    return tuple(tables.values())


def table_named(tables: Sequence[Table], name: str) -> Table:
    """The table of that name; DefinitionError lists those there are."""
    known = {table.name: table for table in tables}
    if name not in known:
        there = f"there are {', '.join(known)}." if known else "the views module declares no TABLES."
        raise DefinitionError(f"there is no table {name!r}; {there}{did_you_mean(name, list(known))}")
    return known[name]


def _imported(module: str, here: str) -> ModuleType:
    what = f"views module {module!r}"
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if module == missing or module.startswith(f"{missing}."):
            raise DefinitionError(
                f"{what} cannot be found; set `views` (WATERSHED_VIEWS) to a module importable from {here}"
            ) from None
        raise _located(f"{what} imports {missing!r}, which cannot be found; install it", error, module) from None
    except SyntaxError as error:
        found = DefinitionError(f"{what} is no Python: {error.msg}")
        found.place = place(error.filename, error.lineno) if error.filename else None
        raise found from None
    except DefinitionError as error:
        error.place = error.place or _place(error, module)
        raise
    except (Exception, SystemExit) as error:  # whatever a user's module raises is theirs to mend
        said = " ".join(str(error).split())
        raise _located(f"{what} cannot be imported: {type(error).__name__}: {said}", error, module) from None


def _located(text: str, error: BaseException, module: str) -> DefinitionError:
    found = DefinitionError(text)
    found.place = _place(error, module)
    return found


def _place(error: BaseException, module: str) -> str | None:
    return innermost(reversed(list(traceback.walk_tb(error.__traceback__))), module)


def _wrong(module: ModuleType, text: str) -> DefinitionError:
    """An error about VIEWS, at the line that assigns it."""
    error = DefinitionError(f"views module {module.__name__!r} {text}")
    if module.__file__ is not None:
        error.place = place(module.__file__, _assigned_at(module.__file__))
    return error


def _assigned_at(file: str) -> int | None:
    """The last line of the module that assigns VIEWS, or imports it."""
    try:
        body = ast.parse(Path(file).read_bytes()).body
    except (OSError, SyntaxError, ValueError):  # it was imported, so that it changed meanwhile or is compiled
        return None
    return max((node.lineno for node in body if "VIEWS" in _names(node)), default=None)


def _names(node: ast.stmt) -> set[str]:
    match node:
        case ast.Assign(targets):
            return {target.id for target in targets if isinstance(target, ast.Name)}
        case ast.AnnAssign(ast.Name(name)) | ast.AugAssign(ast.Name(name)):
            return {name}
        case ast.ImportFrom(names=names):
            return {alias.asname or alias.name for alias in names}
    return set()


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
