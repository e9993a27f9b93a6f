"""A docstring begins with what it is about: a noun, a value, or an imperative; never with a question or with a pronoun.

What reads the log. Whether it is there. It does so.        ->        Reader of the log. True when the file is there. Read it ...
"""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.project.test_structure import OURS, Module, modules, under

# "One record", "Each group" and "Where-clause" are nouns with a word before them.
NO_SUBJECT = re.compile(
    r"(What|Whether|How|Where|Which|Who|Whom|Whose|Whoever|Whatever|Why|It|Its|This|That|These|Those|They|Their|Them|He|His|She|Her|We"
    r"|Our|Ours|You|Your|I)\b(?!-)"
)
# Rooms whose every public function, method and class states its contract.
CONTRACTS = {"pipeline/kernels", "pipeline/log/kafka"}
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def documented(tree: ast.AST) -> Iterator[Documented]:
    """The nodes that may have a docstring, from the module down."""
    return (node for node in ast.walk(tree) if isinstance(node, Documented))


def without_subject(tree: ast.AST) -> list[str]:
    """Beginnings of docstrings that begin with a question or a pronoun."""
    texts = (ast.get_docstring(node) or "" for node in documented(tree))
    return [text[:60] for text in texts if NO_SUBJECT.match(text)]


def without_contract(tree: ast.Module) -> list[str]:
    """Public names at the top, and of the classes there, that have no docstring."""
    found = []
    for node in tree.body:
        inner = node.body if isinstance(node, ast.ClassDef) else []
        for one in (node, *inner):
            named = isinstance(one, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            if named and not (node.name + one.name).startswith("_") and not one.name.startswith("_"):
                found += [] if ast.get_docstring(one) else [one.name]
    return found


@OURS
def test_a_docstring_begins_with_a_noun_or_an_imperative(module: Module) -> None:
    assert without_subject(module.tree) == []


@pytest.mark.parametrize(
    "text", ["What a night asks.", "Whether it is there.", "It ends.", "Its name.", "Where it is."]
)
def test_a_docstring_that_begins_otherwise_is_found_in_any_place(text: str) -> None:
    for code in (f'"""{text}"""', f'class A:\n    """{text}"""', f'def f():\n    def g():\n        """{text}"""'):
        assert without_subject(ast.parse(code)) == [text]
    assert without_subject(ast.parse('"""Items that are left: one record each."""')) == []


@pytest.mark.parametrize(
    "module", [m for m in modules() if under(m.path, CONTRACTS)], ids=lambda m: m.path.removeprefix("pipeline/")
)
def test_the_public_names_of_kernels_and_of_the_log_on_kafka_state_their_contracts(module: Module) -> None:
    assert without_contract(module.tree) == []


def test_a_public_name_without_a_contract_is_found() -> None:
    code = "def a(): ...\ndef _b(): ...\nclass C:\n    def d(self): ...\n    def _e(self): ...\nclass _F:\n    def g(self): ..."
    assert without_contract(ast.parse(code)) == ["a", "C", "d"]
