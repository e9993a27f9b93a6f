"""What the pages of documentation say is so: each example runs, each command and option is there, and none is missing."""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess
import sys
from functools import cache
from typing import Any

import pandas as pd
import pytest
from sqlalchemy.engine import make_url
from typer.main import get_command

import ingestion
import pipeline
from console.commands import LISTED, command_named
from pipeline.definition.expressions import COMPARISONS, FUNCTIONS
from pipeline.definition.names import NAME_LIMIT, OUR_COLUMNS, OUR_VIEWS, SYSTEM_COLUMNS
from tasks import DEFAULTS
from tests.support.docs import PAGES, ROOT, blocks, command_lines, tables, text_of
from tests.support.system import System
from watershed import app

COMMANDS = {name: command_named(name) for name in LISTED} | get_command(app).commands  # type: ignore[attr-defined]  # it is a group
SHOWN = {name: [p for p in command.params if not getattr(p, "hidden", False)] for name, command in COMMANDS.items()}
NAMES = {name: {o for p in shown for o in (*p.opts, *p.secondary_opts)} for name, shown in SHOWN.items()}
OPTIONS = {name: {o for o in names if o.startswith("--")} - {"--help"} for name, names in NAMES.items()}
EXTRAS = (ROOT / "setup.cfg").read_text(encoding="utf-8").partition("[options.extras_require]")[2].partition("\n[")[0]
LUIGI = {"--module", "--date", "--local-scheduler"}
OF_TASKS = {"Nightly": {"--full"}, "Load": {"--table"}}


# --- commands ----------------------------------------------------------------------------------------------------------------


def sections() -> dict[str, str]:
    """Command -> its section of the page on commands."""
    parts = re.split(
        r"^## (?:watershed (\w+)|luigi --module tasks (\w+)|.*).*$", text_of("docs/COMMANDS.md"), flags=re.MULTILINE
    )
    return {parts[n] or parts[n + 1]: parts[n + 2] for n in range(1, len(parts), 3)}


def test_the_page_on_commands_has_every_command_and_no_other() -> None:
    assert set(sections()) - {"Nightly"} == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_page_on_commands_has_every_option_of_a_command_and_no_other(command: str) -> None:
    rows = re.findall(r"^\| (`--.*?) \|", sections()[command], re.MULTILINE)
    assert {option for row in rows for option in re.findall(r"`(--[a-z-]+)", row)} == OPTIONS[command]


def test_the_defaults_that_the_page_on_commands_names_are_the_defaults() -> None:
    named = {}
    for command, section in sections().items():
        for row in re.findall(r"^\| `--.*$", section, re.MULTILINE):
            for default in re.findall(r"(\d+)(?: each)? by default|^\| .*?; (\d+), the default", row):
                named |= {(command, option): int("".join(default)) for option in re.findall(r"`(--[a-z-]+) N`", row)}
    assert len(named) >= 9
    for (command, option), default in named.items():
        (parameter,) = [p for p in COMMANDS[command].params if option in p.opts]
        assert parameter.default == default, (command, option)


def test_the_exit_codes_of_a_night_are_those_that_tasks_sets() -> None:
    numbers = re.findall(r"\b(\d+) (?:already|missing|not run|a task|an exception)", sections()["Nightly"])
    assert numbers == list(DEFAULTS["retcode"].values())
    assert "exit with 30" in text_of("docs/OPERATION.md") and DEFAULTS["retcode"]["task_failed"] == "30"


@pytest.mark.parametrize("arguments", [["status", "--no-such-option"], ["no-such-command"]])
def test_an_option_or_a_command_that_there_is_not_exits_with_2(arguments: list[str]) -> None:
    assert ["2", "an option or argument that there is not"] in [
        row[:2] for row in tables("docs/COMMANDS.md", "# Commands")
    ]
    done = subprocess.run(
        [sys.executable, "-m", "watershed", *arguments], cwd=ROOT, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 2


def problem(line: str) -> str | None:
    """What is wrong with a command that a page shows; None when it could be run so."""
    words = line.split()
    options = {word.strip("[]…,.").partition("=")[0] for word in words if word.lstrip("[").startswith("--")}
    if words[:1] == ["watershed"] and len(words) > 1 and re.fullmatch(r"[a-z]+", words[1]):
        if words[1] not in COMMANDS:
            return "no such command"
        unknown = options - OPTIONS[words[1]] - {"--help"}
    elif words[:3] == ["luigi", "--module", "tasks"] or words[:1] == ["luigi"]:
        unknown = options - LUIGI - OF_TASKS.get(words[3] if len(words) > 3 else "", {"--full"})
    elif words[:1] == ["make"] and len(words) > 1 and re.fullmatch(r"[a-z-]+", words[1]):
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        return None if re.search(rf"^{words[1]}:", makefile, re.MULTILINE) else "no such target"
    elif words[:2] == ["pip", "install"]:
        return (
            None
            if set(re.findall(r"\[(\w+)\]", line)) <= set(re.findall(r"^(\w+) =$", EXTRAS, re.MULTILINE))
            else "no such extra"
        )
    else:
        return None
    return f"no such options: {sorted(unknown)}" if unknown else None


@pytest.mark.parametrize("page", PAGES)
def test_every_command_that_a_page_shows_could_be_run_so(page: str) -> None:
    assert {line: found for line in command_lines(page) if (found := problem(line))} == {}


def test_the_reader_of_commands_finds_them_and_what_is_wrong_with_them() -> None:
    shown = [line for page in PAGES for line in command_lines(page)]
    for expected in (
        "watershed init",
        "watershed purge --keep 2",
        "make demo",
        "watershed speed",
        "pip install '.[demo]'",
    ):
        assert expected in shown
    assert sum(line.startswith("luigi --module tasks Nightly --date") for line in shown) >= 3
    mistyped = (
        "watershed inti",
        "watershed init --rebuid",
        "luigi --module tasks Nightly --dat x",
        "make dmeo",
        "pip install '.[demos]'",
    )
    for wrong in mistyped:
        assert problem(wrong), wrong


# --- links ---------------------------------------------------------------------------------------------------------------------


def anchors(page: str) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    for target, anchor in re.findall(r"\]\((?!https?://)([^)#]*)(?:#([^)]*))?\)", text_of(page)):
        path = ((ROOT / page).parent / target).resolve() if target else ROOT / page
        found = path.relative_to(ROOT).as_posix()
        assert path.exists(), f"{page} links to {target}"
        assert not anchor or anchor in anchors(found), f"{page} links to {target}#{anchor}"


def test_the_readme_is_short_and_leads_to_every_page() -> None:
    readme = text_of("README.md")
    assert len(readme.splitlines()) < 80
    assert {page for page in PAGES if page != "README.md"} <= set(re.findall(r"\]\(([^)]*)\)", readme))


# --- views -----------------------------------------------------------------------------------------------------------------------


def signature(cell: str) -> list[tuple[str, list[str]]]:
    """(name, arguments) of each call in a table's cell."""
    calls = re.findall(r"`(\w+)\((.*?)\)`", cell)
    return [
        (name, [argument.split("=")[0].strip("* ") for argument in inside.split(",") if argument.strip()])
        for name, inside in calls
    ]


def test_every_constraint_remedy_and_aggregate_stands_in_a_table_with_its_arguments() -> None:
    rows = tables("docs/VIEWS.md", "## Constraints and remedies") + tables("docs/VIEWS.md", "## Aggregates")
    rows += tables("docs/EVENTS.md", "## Marks") + tables("docs/EVENTS.md", "## Formats")
    rows += tables("docs/DATA-IN.md", "## Loads and checks")
    shown = dict(pair for row in rows for pair in signature(row[0]))
    assert set(shown) == set(pipeline.__all__) - {"Source", "View", "Derived", "tumbling", "Table", "Lookup"}
    for name, arguments in shown.items():
        assert arguments == [
            p for p in inspect.signature(getattr(pipeline, name)).parameters if (name, p) != ("Count", "column")
        ], name


@pytest.mark.parametrize(
    ("page", "heading", "declared"),
    [
        ("docs/VIEWS.md", "## Source", pipeline.Source),
        ("docs/VIEWS.md", "## View", pipeline.View),
        ("docs/DATA-IN.md", "## Tables", pipeline.Table),
        ("docs/DATA-IN.md", "## Lookups", pipeline.Lookup),
        ("docs/DATA-IN.md", "## Feeds", ingestion.Feed),
    ],
)
def test_the_whole_signature_of_what_is_declared_stands_in_a_table(page: str, heading: str, declared: type) -> None:
    assert [row[0].strip("`") for row in tables(page, heading)] == list(inspect.signature(declared).parameters)


def test_the_arguments_of_tumbling_and_derived_are_named() -> None:
    text = text_of("docs/VIEWS.md")
    (inside,) = re.findall(r"`tumbling\((days=.*?)\)`", text)
    assert inside == ", ".join(
        f"{p.name}={p.default}" for p in inspect.signature(pipeline.tumbling).parameters.values()
    )
    assert "`Derived(expression, type)`" in text and list(inspect.signature(pipeline.Derived).parameters) == [
        "expression",
        "type",
    ]


def test_every_function_that_expressions_may_call_is_named() -> None:
    signs = dict.fromkeys(COMPARISONS, "comparisons") | {
        "cast": "`.cast(…)`",
        "is_in": "`.isin([…])`",
        "sqrt_checked": "`pc.sqrt`",
    }
    signs |= {
        "and_kleene": "`&`",
        "or_kleene": "`|`",
        "invert": "`~`",
        "is_null": "`.is_null()`",
        "is_valid": "`.is_valid()`",
    }
    signs |= {
        "add_checked": "`+`",
        "subtract_checked": "`-`",
        "multiply_checked": "`*`",
        "divide_checked": "`/`",
        "is_nan": "`.is_nan()`",
    }
    text = text_of("docs/VIEWS.md")
    assert [name for name in FUNCTIONS if signs.get(name, f"`pc.{name}`") not in text] == []


def test_the_names_that_are_refused_are_those_that_the_page_lists() -> None:
    (paragraph,) = re.findall(r"\*\*Names\*\*.*?\n\n", text_of("docs/VIEWS.md"), re.DOTALL)
    assert set(re.findall(r"`(\w+)`", paragraph)) == OUR_COLUMNS | OUR_VIEWS | SYSTEM_COLUMNS
    assert f"at most {NAME_LIMIT} characters" in paragraph


@pytest.mark.slow
def test_the_examples_of_the_page_on_views_run_from_the_event_to_the_answer(system: System) -> None:
    """Its Python as the views module, its events through Kafka, its SQL, and its function for Python, on real servers."""
    python, events = (
        blocks("docs/VIEWS.md", "python"),
        [line for block in blocks("docs/VIEWS.md", "json") for line in block.splitlines()],
    )
    system.define("\n".join(python).replace('topic="shop.orders"', f"topic={system.topic!r}"))
    system.run("init", "--partitions", "1")
    system.produce((0, json.loads(event)["shop"].encode(), event.encode()) for event in events)
    system.catch_up()
    system.night("2013-01-31")
    for page in ("docs/VIEWS.md", "docs/OPERATION.md"):
        for statement in (
            s for block in blocks(page, "sql") for s in block.split(";") if s.strip().startswith("SELECT")
        ):
            assert system.query(statement), statement
    assert system.query("SELECT accepted, rejected FROM serving.accounting") == [{"accepted": 2, "rejected": 0}]
    rows = system.query("SELECT * FROM serving.shop_days ORDER BY shop")
    assert [(r["shop"], r["lines"], r["discounted"], str(r["turnover"]), r["customers"]) for r in rows] == [
        ("north", 1, 1, "19.90", 1),
        ("web", 1, 1, "4.50", 1),
    ]
    (big,) = system.query(
        "SELECT shop, ordered_on::text AS day, orders, turnover::text AS turnover FROM serving.big_orders"
    )
    # 19.90 × 3 × 0.95 = 56.715 as a float
    assert big == {"shop": "north", "day": "2013-01-31", "orders": 1, "turnover": "56.71"}
    names: dict[str, Any] = {}
    exec(compile(python[-1], "docs/VIEWS.md", "exec", dont_inherit=True), names)
    plain = make_url(system.postgres).set(drivername="postgresql").render_as_string(hide_password=False)
    frame: pd.DataFrame = names["turnover"](plain)
    assert [str(value) for value in frame["turnover"]] == ["19.90", "4.50"]
    system.assert_exact()


# --- operation ---------------------------------------------------------------------------------------------------------------------


@cache
def messages() -> list[str]:
    """Every text in our code, what is put in shown as …"""
    found = []
    for folder in ("pipeline", "serving", "speed_layer", "tasks"):
        for file in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                match node:
                    case ast.JoinedStr(values):
                        found.append("".join(str(v.value) if isinstance(v, ast.Constant) else "…" for v in values))
                    case ast.Constant(str(value)):
                        found.append(value)
    return found


def test_each_refusal_that_the_page_on_operation_explains_is_one_that_there_is() -> None:
    rows = tables("docs/OPERATION.md", "## Refusals, and what repairs them")
    assert len(rows) >= 10
    for said, _, repair in rows:
        pattern = re.compile(".*".join(re.escape(part.strip()) for part in said.split("…")), re.DOTALL)
        assert any(pattern.search(message) for message in messages()), said
        assert repair


@pytest.mark.slow
def test_the_grants_of_the_page_on_operation_are_enough_for_readers_and_no_more(system: System) -> None:
    system.run("init", "--partitions", "1")
    with system.database.begin() as connection:
        connection.exec_driver_sql("CREATE ROLE readers")
        for statement in (s.strip() for block in blocks("docs/OPERATION.md", "sql") for s in block.split(";")):
            if statement and not statement.startswith("SELECT"):
                connection.exec_driver_sql(statement)
        connection.exec_driver_sql("SET LOCAL ROLE readers")
        for view in ("hourly_weather", "freshness", "accounting", "view_accounting"):
            connection.exec_driver_sql(f"SELECT * FROM serving.{view}")
        for schema in ("ops", "batch", "speed"):
            query = f"SELECT has_schema_privilege('readers', '{schema}', 'USAGE')"
            assert connection.exec_driver_sql(query).scalar_one() is False
        connection.exec_driver_sql("RESET ROLE")
        connection.exec_driver_sql("DROP OWNED BY readers")
        connection.exec_driver_sql("DROP ROLE readers")
