"""An error whose text names the command that mends it has that command as its `repair`, and one place writes it out.

for every error of ours in the source: a command of COMMANDS in its text  =>  repair=...        read from the source, not trusted
"""

import ast
import re
from collections.abc import Iterator
from functools import cache

import pytest

from pipeline.base import errors
from pipeline.base.errors import DefinitionError, Refused, WatershedError
from pipeline.handover.coverage import Untiled
from pipeline.log.log import Compacted
from tests.project.test_structure import OURS, Module, modules

ROOMS = {"pipeline", "serving", "speed_layer", "tasks", "console"}
COMMANDS = re.compile(r"`(watershed (init|rebuild|rollback|purge)|luigi|pip|chmod)\b|\brun (pip|luigi|watershed)\b")
# Errors that name a command and are not mended by it alone; by a part of their text, with the reason.
NOT_BY_IT_ALONE = {
    "needs CREATE on the database for `watershed init`": "an administrator grants that",
    "start this again with the views that are in force": "the command is how it came to be; any process is started again",
    "start the worker again": "the command is how it came to be",
    "first take it out of": "the views module is changed first, or a view renamed instead",
    "createdb --encoding=UTF8": "a database is made first, and its name put into the settings",
    "where the archive ends": "a topic is deleted first, by hand",
    "TOPIC`, one of": "the topic is the user's to choose",
}


@cache
def classes() -> set[str]:
    """Names of all error classes of ours, by their definitions."""
    found = {"WatershedError"}
    bases = {
        node.name: {base.id for base in node.bases if isinstance(base, ast.Name)}
        for module in modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
    }
    while more := {name for name, of in bases.items() if of & found} - found:
        found |= more
    return found


def literal(node: ast.AST) -> str:
    """The words of an error's text, in order, without what is put in."""
    return "".join(n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str))


def made(module: Module) -> Iterator[ast.Call]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in classes():
            yield node


def without_repair(module: Module) -> list[str]:
    """Texts of errors that name a command and do not have it as `repair`."""
    found = [
        (call.lineno, literal(call.args[0]))
        for call in made(module)
        if call.args and not any(keyword.arg == "repair" for keyword in call.keywords)
    ]
    return [
        f"{module.path}:{line}: {text}"
        for line, text in found
        if COMMANDS.search(text) and not any(words in text for words in NOT_BY_IT_ALONE)
    ]


@OURS
def test_an_error_that_names_the_command_that_mends_it_has_it_as_its_repair(module: Module) -> None:
    if module.package in ROOMS:
        assert without_repair(module) == []


def test_an_error_with_its_command_in_the_text_alone_is_found() -> None:
    code = "raise Refused(f'topic {t} is not set up: run `watershed init`')\nraise Refused('gone', repair='watershed init')"
    assert len(without_repair(Module("serving/x.py", ast.parse(code), 2))) == 1
    assert sum(1 for module in modules() for call in made(module) if any(k.arg == "repair" for k in call.keywords)) > 25


def test_each_exception_to_that_is_one_that_there_is() -> None:
    texts = [literal(call) for module in modules() if module.package in ROOMS for call in made(module)]
    assert [words for words in NOT_BY_IT_ALONE if not any(words in text for text in texts)] == []


def test_a_repair_is_a_bare_command() -> None:
    """Without backticks, a period or a word before it: `run` and the marks are put around it where it is written out."""
    for module in modules():
        for call in made(module) if module.package in ROOMS else ():
            for said in (literal(k.value) for k in call.keywords if k.arg == "repair"):
                assert not said or re.fullmatch(r"(watershed|luigi|pip|chmod) [^`]*[^`. ]\s?", said), (
                    module.path,
                    said,
                )


@pytest.mark.parametrize(
    ("error", "logged", "reported"),
    [
        (
            Refused("topic x is not set up", repair="watershed init"),
            "topic x is not set up: run `watershed init`",
            "topic x is not set up\n  next: watershed init",
        ),
        (
            Untiled("a gap; `watershed rebuild` folds anew", repair="watershed rebuild"),
            "a gap; `watershed rebuild` folds anew",
            "a gap; `watershed rebuild` folds anew\n  next: watershed rebuild",
        ),
        (Compacted("set cleanup.policy=delete on it"), *["set cleanup.policy=delete on it"] * 2),
    ],
)
def test_a_console_says_what_happened_and_then_the_next_command(
    error: WatershedError, logged: str, reported: str
) -> None:
    assert (str(error), error.report()) == (logged, reported)


def test_the_place_of_a_definition_stands_before_the_next_command() -> None:
    error = DefinitionError("hypothesis is not installed", repair="pip install hypothesis")
    error.place = "views.py:3"
    assert str(error) == "hypothesis is not installed: run `pip install hypothesis` (at views.py:3)"
    assert error.report() == "hypothesis is not installed (at views.py:3)\n  next: pip install hypothesis"


def test_one_place_writes_the_next_command_out() -> None:
    """Whoever prints an error calls `report`, or str; nobody else puts the two together."""
    assert errors.NEXT == "\n  next: "
    told = [m.path for m in modules() if m.package in ROOMS | {"watershed"} and ".repair" in ast.unparse(m.tree)]
    assert told == ["pipeline/base/errors.py"]
