"""The reference shares no code with what it judges: its imports are read, not trusted."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import pipeline.plain

FOLDER = Path(pipeline.plain.__file__).parent
FILES = sorted(FOLDER.glob("*.py"))
DEFINITIONS = {
    "pipeline.definition.lookup",
    "pipeline.definition.view",
    "pipeline.definition.formats",
    "pipeline.definition.protobuf_schema",
    "pipeline.definition.source",
    "pipeline.definition.record",
    "pipeline.definition.constraints",
    "pipeline.definition.debezium",
    "pipeline.definition.marks",
    "pipeline.definition.paths",
    "pipeline.definition.expressions",
    "pipeline.base.types",
    "pipeline.base.errors",
}
CLASSES = {"Aggregate", "Count", "CountNonNull", "DistinctCount", "First", "Last", "Max", "Mean", "Min"}
CLASSES |= {"Quantile", "StdDev", "Sum", "Variance"}


def imports(file: Path) -> list[tuple[str, list[str]]]:
    """(module, names taken from it) of every import statement, wherever it stands."""
    found: list[tuple[str, list[str]]] = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found += [(alias.name, []) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file.name}: a relative import"
            found.append((node.module or "", [alias.name for alias in node.names]))
    return found


def allowed(module: str, names: list[str]) -> bool:
    """Whether the reference may import this."""
    if module == "pipeline.aggregates":  # to tell them apart, never to compute
        return bool(names) and set(names) <= CLASSES
    if module == "pipeline.definition.window":  # to tell them apart, too
        return bool(names) and set(names) <= {"Tumbling", "Window"}
    if module == "pipeline.handover.generation":  # a row of the ledger, as a value; which one counts it says itself
        return names == ["Cut"]
    if module == "pyarrow":  # to take raw records out of batches
        return not {"compute", "json"} & set(names)
    if module in DEFINITIONS or module.startswith("pipeline.plain"):
        return True
    return module.partition(".")[0] in sys.stdlib_module_names


def test_the_reference_has_files_to_read() -> None:
    assert {f.name for f in FILES} >= {"__init__.py", "reference.py", "groups.py", "expression.py", "values.py"}


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_the_reference_imports_definitions_and_the_standard_library_only(file: Path) -> None:
    assert [(module, names) for module, names in imports(file) if not allowed(module, names)] == []


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_the_reference_names_no_computing_of_others(file: Path) -> None:
    """No pa.compute, no importlib, no method of an aggregate but its `reference`, and none of a window."""
    tree = ast.parse(file.read_text())
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    computing = {
        "compute",
        "lift",
        "merge",
        "present",
        "zero",
        "over",
        "measures",
        "pane",
        "last_date",
        "to_numpy",
        "canonical",
    }
    assert not attributes & computing
    assert not names & {"__import__", "importlib", "eval", "exec"}


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("numpy", []),
        ("numba", ["njit"]),
        ("pyarrow.compute", []),
        ("pyarrow", ["compute"]),
        ("pipeline.kernels.reduce", ["best_by_group"]),
        ("pipeline.aggregates.sums", ["round_div"]),
        ("pipeline.aggregates", ["round_div"]),
        ("pipeline.definition.window", ["tumbling"]),
        ("pipeline.decode.values", ["parser"]),
        ("pipeline.columns.arrays", ["codes"]),
    ],
)
def test_the_check_sees_what_is_not_allowed(module: str, names: list[str]) -> None:
    assert not allowed(module, names)
