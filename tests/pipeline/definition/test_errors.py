"""An error of definition names the user's file and line, and an argument that there is not, those that there are."""

# ruff: noqa: E501 -- a case is a line: text, line, words
from __future__ import annotations

import inspect
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, make_dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest

import pipeline
from pipeline import Between, Clip, Count, Default, Derived, Max, OneOf, Quantile, Scale, Source, View, tumbling
from pipeline.aggregates.sums import Sum
from pipeline.base.errors import DefinitionError, Refused, SettingsError, WatershedError
from pipeline.definition.views_module import load_views
from tests.support.definitions import Reading, source, view

ROOT = Path(__file__).resolve().parents[3]
HEAD = """\
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated
from pipeline import *
@dataclass(frozen=True)
class Event:
    id: str
    at: datetime
    price: Annotated[Decimal, Scale(2)]
events = Source(topic="events", record=Event, key="id", event_time="at", identity="id")
"""  # 11 lines
VIEW = 'View(name="{}", source=events, key=("id",), window=tumbling(hours=1), aggregates={{"n": Count()}})'


# --- arguments -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Widest(Sum):
    """An aggregate of a user's own, with a parameter more."""

    limit: int = 3


WRONG_ARGUMENTS: list[tuple[Callable[[], object], str]] = [
    (
        lambda: view(filters=1),
        "View has no 'filters'; it has name, source, key, window, aggregates, derive, where, lookups. Did you mean 'where'?",
    ),
    (
        lambda: view(agregates={}),
        "View has no 'agregates'; it has name, source, key, window, aggregates, derive, where, lookups. Did you mean 'aggregates'?",
    ),
    (
        lambda: replace(view(), keys=("id",)),
        "View has no 'keys'; it has name, source, key, window, aggregates, derive, where, lookups. Did you mean 'key'?",
    ),
    (
        lambda: View(name="x"),
        "View lacks 'source', 'key', 'window', 'aggregates'; needed are name, source, key, window, aggregates",
    ),  # type: ignore[call-arg]
    (
        lambda: source(timestamp="at"),
        "Source has no 'timestamp'; it has topic, record, key, event_time, identity, identity_horizon, format, explode. Did you mean 'event_time'?",
    ),
    (
        lambda: Source(topic="x"),
        "Source lacks 'record', 'key', 'event_time', 'identity'; needed are topic, record, key, event_time, identity",
    ),  # type: ignore[call-arg]
    (lambda: tumbling(weeks=1), "tumbling has no 'weeks'; it has days, hours, minutes, seconds."),  # type: ignore[call-arg]
    (lambda: tumbling(1), "tumbling takes no argument by place, and is given 1; it has days, hours, minutes, seconds."),  # type: ignore[misc]
    (lambda: Derived(expr=1, type=int), "Derived has no 'expr'; it has expression, type."),  # type: ignore[call-arg]
    (lambda: Between(0, 1, 2), "Between takes 2 arguments by place, and is given 3; it has low, high."),  # type: ignore[call-arg]
    (lambda: Between(0, low=1), "Between is given 'low' by its place and by its name; give it once"),  # type: ignore[misc]
    (lambda: OneOf(values=["a"]), "OneOf has no 'values'; it takes its options one after the other."),  # type: ignore[call-arg]
    (lambda: Scale(), "Scale lacks 'digits'; needed are digits"),  # type: ignore[call-arg]
    (lambda: Clip(low=0), "Clip has no 'low'; it takes nothing."),  # type: ignore[call-arg]
    (lambda: Default(), "Default lacks 'value'; needed are value"),  # type: ignore[call-arg]
    (lambda: Quantile("x", quantile=0.9), "Quantile has no 'quantile'; it has column, q."),  # type: ignore[call-arg]
    (lambda: Widest("x", limits=4), "Widest has no 'limits'; it has column, limit. Did you mean 'limit'?"),  # type: ignore[call-arg]
]


@pytest.mark.parametrize(
    ("make", "message"), WRONG_ARGUMENTS, ids=[message.partition(";")[0] for _, message in WRONG_ARGUMENTS]
)
def test_an_argument_that_is_not_taken_is_answered_with_those_that_are(
    make: Callable[[], object], message: str
) -> None:
    with pytest.raises(DefinitionError) as caught:
        make()
    assert caught.value.text == message


DECLARED = [name for name in pipeline.__all__ if callable(getattr(pipeline, name))]


@pytest.mark.parametrize("name", DECLARED)
def test_everything_public_answers_an_unknown_argument_with_a_definition_error_and_its_own_line(name: str) -> None:
    with pytest.raises(DefinitionError, match=rf"^{name} has no 'no_such_argument'; it ") as caught:
        getattr(pipeline, name)(no_such_argument=1)
    assert caught.value.place == f"tests/pipeline/definition/test_errors.py:{_line_of('(no_such_argument=1)')}"


WITHOUT_ARGUMENTS = ("Append", "FromText", "Full", "Json", "Lenient", "RecordKey", "RecordTime", "Snapshot")
RIGHT: dict[str, dict[str, Any]] = {
    "View": {
        "name": "hourly",
        "source": source(),
        "key": ("station",),
        "window": tumbling(hours=1),
        "aggregates": {"n": Count()},
    },
    "Source": {"topic": "t", "record": Reading, "key": "station", "event_time": "observed_at", "identity": "id"},
    "Derived": {"expression": pc.field("count"), "type": int},
}
ODD: list[Any] = [
    None,
    1,
    -1,
    1.5,
    float("nan"),
    "x",
    "",
    b"x",
    [],
    ["x"],
    {},
    {"x": 1},
    (),
    ("x",),
    object(),
    int,
    Count,
    Count(),
    10**400,
]


@pytest.mark.parametrize("name", DECLARED)
def test_no_value_of_an_argument_ends_in_anything_but_a_definition_error(name: str) -> None:
    """Each argument in turn, the others being right: it is taken, or refused in our words."""
    make = getattr(pipeline, name)
    right = RIGHT.get(name, {})
    parameters = inspect.signature(make).parameters.values()
    refused = 0
    for parameter in parameters:
        for value in ODD:
            given = (
                ((value,), {}) if parameter.kind is parameter.VAR_POSITIONAL else ((), right | {parameter.name: value})
            )
            try:
                made = make(*given[0], **given[1])
                if isinstance(made, pipeline.aggregates.base.Aggregate):
                    view(aggregates={"a": made})  # an aggregate is checked where its column is known
            except DefinitionError as error:
                assert error.place is not None and error.place.startswith(
                    ("tests/pipeline/definition/test_errors.py:", "tests/support/definitions.py:")
                ), error
                refused += 1
    assert refused or name in (*("Nullable", "Clip", "Default", "OneOf"), *WITHOUT_ARGUMENTS)


def _line_of(text: str) -> int:
    lines = Path(__file__).read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if line.rstrip().endswith(text))


def test_help_shows_the_signature_of_the_class_and_not_that_of_the_machinery() -> None:
    assert list(inspect.signature(View).parameters) == [
        "name",
        "source",
        "key",
        "window",
        "aggregates",
        "derive",
        "where",
        "lookups",
    ]
    assert str(inspect.signature(Scale)) == "(digits: int)"
    assert list(inspect.signature(tumbling).parameters) == ["days", "hours", "minutes", "seconds"]


# --- places ------------------------------------------------------------------------------------------------------------------

DEFINITIONS = {  # what follows the head -> line, and words of the message
    "a view": ('\n\nwrong = View(name="w", source=events, key=("idd",), window=tumbling(hours=1), aggregates={"n": Count()})', 14, "'idd'"),
    "over lines": ('wrong = View(\n  name="w",\n  source=events,\n  key="id", window=tumbling(hours=1), aggregates={})', 12, "key='id'"),
    "a source": ('\nwrong = Source(topic="a b", record=Event, key="id", event_time="at", identity="id")', 13, "topic 'a b'"),
    "an unknown keyword": ("\nwrong = View(filters=1)", 13, "has no 'filters'"),
    "a derived column": ('\nwrong = Derived("price * 2", int)', 13, "pyarrow.compute"),
    "a window": ("\nwrong = tumbling(days=400)", 13, "366 days"),
    "a constraint": ("\nwrong = Between(2, 1)", 13, "allows nothing"),
    "an aggregate": ('\nwrong = Quantile("price", 2)', 13, "q=2"),
    "a column": ("\n@dataclass\nclass Own:\n    id: str\n\n    price: Decimal\nwrong = Source(topic='t', record=Own, key='id', event_time='at', identity='id')", 17, "Own.price"),
    "an inherited column": ("\n@dataclass\nclass Base:\n    price: complex\n@dataclass\nclass Own(Base):\n    id: str\nwrong = Source(topic='t', record=Own, key='id', event_time='at', identity='id')", 15, "Own.price"),
    "a column's constraint": ("\n@dataclass\nclass Own:\n    id: Annotated[str,\n        Scale(2)]\nwrong = Source(topic='t', record=Own, key='id', event_time='at', identity='id')", 15, "Scale(digits=2)"),
    "in a function": ('\ndef make():\n    return tumbling(days=-1)\nwrong = make()', 14, "366 days"),
    "by a dataclass's own __init__": ("\nfrom dataclasses import field\n@dataclass\nclass Mine:\n    window: object = field(default_factory=lambda: tumbling(days=400))\nMine()", 16, "366 days"),
    "in __post_init__": ("\n@dataclass\nclass Mine:\n    days: int\n    def __post_init__(self):\n        tumbling(days=self.days)\nMine(400)", 17, "366 days"),
    "a class": ("\nfrom pipeline.aggregates.sums import Sum\nclass Mine(Sum):\n    def lift(self, type):\n        pass", 14, "aggregate Mine defines lift"),
    "by replace": ('\nfrom dataclasses import replace\nwrong = replace(events, key="idd")', 14, "'idd'"),
}  # fmt: skip
LAZY = "from __future__ import annotations\n"
LAZY_COLUMNS = {
    "a bound, read late": ("\n@dataclass\nclass Own:\n    id: str\n    n: Annotated[int, Between(2, 1)]\nwrong = Source(topic='t', record=Own, key='id', event_time='at', identity='id')", 17, "Own.n: Between(2, 1) allows nothing"),
    "a name that is not there": ("\n@dataclass\nclass Own:\n    id: str\n    n: Annotated[int, Betwen(2, 1)]\nwrong = Source(topic='t', record=Own, key='id', event_time='at', identity='id')", 17, "'Betwen' is not defined"),
    "no Python": ("\n@dataclass\nclass Own:\n    id: str\n    n: 'int |'\nwrong = Source(topic='t', record=Own, key='id', event_time='at', identity='id')", 17, "Own.n: its annotation cannot be read"),
}  # fmt: skip
CASES = [(HEAD + tail, line, words) for tail, line, words in DEFINITIONS.values()]
CASES += [(LAZY + HEAD + tail, line, words) for tail, line, words in LAZY_COLUMNS.values()]
NAMES = [*DEFINITIONS, *LAZY_COLUMNS]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory of a user, from which modules are imported, each made anew."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", None) or ""):
            del sys.modules[name]


@pytest.mark.parametrize(("text", "line", "words"), CASES, ids=NAMES)
def test_a_views_module_that_defines_wrongly_is_named_with_its_line(
    folder: Path, text: str, line: int, words: str
) -> None:
    (folder / "mine_wrong.py").write_text(text)
    with pytest.raises(DefinitionError) as caught:
        load_views("mine_wrong")
    assert str(caught.value).endswith(f"(at mine_wrong.py:{line})") and words in str(caught.value)


def test_a_package_s_inner_module_is_named(folder: Path) -> None:
    (folder / "team" / "deep").mkdir(parents=True)
    (folder / "team" / "__init__.py").write_text("from team.deep.views import VIEWS\n")
    (folder / "team" / "deep" / "views.py").write_text(HEAD + "\nVIEWS = (View(name='X'),)\n")
    with pytest.raises(DefinitionError, match=r"\(at team/deep/views\.py:13\)$"):
        load_views("team")


def test_an_installed_module_of_views_is_named_and_so_is_code_elsewhere(folder: Path) -> None:
    """Not below the working directory: the whole path."""
    place = folder / "lib" / "site-packages"
    place.mkdir(parents=True)
    (place / "installed_views.py").write_text(HEAD + "x = {}['a']\n")
    sys.path.insert(0, str(place))
    (folder / "elsewhere").mkdir()
    os.chdir(folder / "elsewhere")
    with pytest.raises(DefinitionError) as caught:
        load_views("installed_views")
    assert str(caught.value).endswith(f"KeyError: 'a' (at {place}/installed_views.py:12)")


def test_an_error_inside_an_installed_package_is_looked_for_where_the_module_called_it(folder: Path) -> None:
    (folder / "calls.py").write_text("import pyarrow as pa\n\nx = pa.schema([pa.field('a', pa.int8()), 7])\n")
    with pytest.raises(DefinitionError, match=r"\(at calls\.py:3\)$"):
        load_views("calls")


FAILING = {
    "the environment": ("import os\n\n\nx = os.environ['NO_SUCH_VARIABLE']\n", "KeyError: 'NO_SUCH_VARIABLE' (at failing.py:4)"),
    "syntax": ("x = 1\nVIEWS = (1,\n", "'(' was never closed (at failing.py:2)"),
    "an import": ("\nimport no_such_package\n", "imports 'no_such_package', which cannot be found; install it (at failing.py:2)"),
    "an import like its own name": ("import fail\n", "imports 'fail', which cannot be found; install it (at failing.py:1)"),
    "a name": ("\nfrom pipeline import Sume\n", "ImportError: cannot import name 'Sume' from 'pipeline'"),
    "exit": ("import sys\nsys.exit(3)\n", "SystemExit: 3 (at failing.py:2)"),
    "no VIEWS": ("x = 1\n", "declares no VIEWS; write VIEWS = (view, ...), a tuple of View values (at failing.py)"),
    "other case": (HEAD + "Views = ()\n", "declares no VIEWS; it has 'Views'; write VIEWS = (view, ...)"),
    "a list": (HEAD + "\nVIEWS = []\n", "has VIEWS = []; allowed is a tuple of at least one View: VIEWS = (view, ...) (at failing.py:13)"),
    "a view": (HEAD + f"VIEWS = ({VIEW.format('hourly')})\n", "has VIEWS = hourly, one View; a tuple of one has a comma: VIEWS = (hourly,) (at failing.py:12)"),
    "no view in it": (HEAD + f"one = {VIEW.format('a')}\nVIEWS = (one, 'b')\n", "has VIEWS[1] = 'b', which is no View (at failing.py:13)"),
    "one name": (HEAD + f"one = {VIEW.format('a')}\nVIEWS = (one, one)\n", "has two views named 'a'; rename one (at failing.py:13)"),
    "two sources": (
        HEAD + f"a = {VIEW.format('a')}\nfrom dataclasses import replace\nb = replace(a, name='b', source=replace(events, identity=None))\nVIEWS: tuple = (a, b)\n",
        "has two different Sources for topic 'events'; a topic has one (at failing.py:15)",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "message"), FAILING.values(), ids=FAILING)
def test_a_views_module_that_cannot_be_used_is_one_line_with_its_place(folder: Path, text: str, message: str) -> None:
    (folder / "failing.py").write_text(text)
    with pytest.raises(DefinitionError) as caught:
        load_views("failing")
    assert message in str(caught.value) and str(caught.value).startswith("views module 'failing' ")
    assert "\n" not in str(caught.value) and "(at failing.py" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "meant"), [("mine.py", "mine"), ("team/views.py", "team.views"), ("./views", "views"), ("", "views")]
)
def test_a_path_where_a_module_is_asked_for_is_answered_with_the_module(folder: Path, name: str, meant: str) -> None:
    with pytest.raises(SettingsError, match=rf"the name of an importable module, as `{meant}`$"):
        load_views(name)


def test_a_module_that_is_not_there_is_no_matter_of_a_line(folder: Path) -> None:
    with pytest.raises(DefinitionError, match=r"'nowhere\.at_all' cannot be found; set `views` \(WATERSHED_VIEWS\)"):
        load_views("nowhere.at_all")


def _script(folder: Path, *arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WATERSHED_")} | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, input=text, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize(
    ("arguments", "from_stdin", "place"),
    [(("mine.py",), False, "mine.py:13"), (("-",), True, "line 13 of <stdin>"), (("-c", HEAD + "\nView(filters=1)"), False, "line 13 of <string>")],
    ids=["a script", "a console", "-c"],
)  # fmt: skip
def test_python_itself_says_the_line_last(
    folder: Path, arguments: tuple[str, ...], from_stdin: bool, place: str
) -> None:
    text = HEAD + "\nView(filters=1)\n"
    (folder / "mine.py").write_text(text)
    done = _script(folder, *arguments, text=text if from_stdin else None)
    assert done.returncode == 1
    assert done.stderr.rstrip().splitlines()[-1].endswith(f"Did you mean 'where'? (at {place})"), done.stderr


def test_a_cell_of_a_notebook_is_named_by_its_line() -> None:
    """A notebook executes text under a name of its own, or none."""
    for name, place in (
        ("<ipython-input-3-0123>", "line 13 of <ipython-input-3-0123>"),
        ("<string>", "line 13 of <string>"),
    ):
        with pytest.raises(DefinitionError) as caught:
            exec(compile(HEAD + "\nView(filters=1)", name, "exec", dont_inherit=True), {"__name__": "__main__"})
        assert caught.value.place == place


@pytest.mark.parametrize("command", ["init", "plan", "speed"])
def test_the_command_line_says_one_line_with_the_place(folder: Path, command: str) -> None:
    (folder / "views.py").write_text(HEAD + "\nVIEWS = (View(filters=1),)\n")
    (folder / "luigi.cfg").write_text(
        "[watershed]\nkafka = 127.0.0.1:1\npostgres = postgresql://nobody@127.0.0.1:1/none\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WATERSHED_")} | {
        "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"
    }
    done = subprocess.run(
        [sys.executable, "-m", "watershed", command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("watershed: View has no 'filters'; it has name,") and line.endswith("(at views.py:13)")


# --- errors --------------------------------------------------------------------------------------------------------------------


def test_a_repair_is_a_field_and_is_said_once() -> None:
    told = Refused("the definitions are others", repair="watershed init --rebuild")
    assert str(told) == "the definitions are others: run `watershed init --rebuild`"
    prose = Refused("put them back, or fold anew with `watershed init --rebuild`", repair="watershed init --rebuild")
    assert str(prose) == "put them back, or fold anew with `watershed init --rebuild`"
    assert (told.repair, prose.repair, Refused("nothing helps").repair) == (
        "watershed init --rebuild",
        "watershed init --rebuild",
        None,
    )


def test_errors_travel_between_processes_with_their_repair_and_their_place() -> None:
    with pytest.raises(DefinitionError) as caught:
        Max(colum="x")  # type: ignore[call-arg]
    for error in (caught.value, Refused("no", repair="watershed init"), WatershedError("plain")):
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy), copy.repair) == (type(error), str(error), error.repair)


def test_a_record_without_a_source_is_named_by_the_line_that_uses_it() -> None:
    own = make_dataclass("Own", [("id", str), ("at", datetime), ("x", complex)])
    with pytest.raises(DefinitionError, match=r"^Own\.x is declared") as caught:
        Source("made", own, "id", "at", "id")
    line = _line_of('own, "id", "at", "id")')
    assert caught.value.place == f"tests/pipeline/definition/test_errors.py:{line}"
