"""Construction of what a user declares: a wrong argument is answered with those that there are, and every error knows its line.

    Declared(...) raises e  =>  e is a DefinitionError, and e.place is the innermost line outside our packages and generated code

The place is kept by the error itself, so that `watershed init`, a script, a notebook and a test all show the same one.
"""

import functools
import inspect
import os
import sys
from abc import ABCMeta
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, ParamSpec, TypeVar

from pipeline.base.errors import DefinitionError, did_you_mean

P = ParamSpec("P")
R = TypeVar("R")
Frame = tuple[FrameType, int]  # and the line that it is at
OURS = {"pipeline", "serving", "ingestion", "speed_layer", "tasks", "console", "simulation", "sandbox"}
OURS |= {"watershed", "one_heap"}
STANDARD = str(Path(os.__file__).parent) + os.sep
INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
COMPILED = (".pyx", ".pxi", ".pxd")  # Cython's frames, whose files are somewhere else
OTHER_WORDS = {  # of other tools, for what is meant here
    "filter": "where",
    "filters": "where",
    "condition": "where",
    "group_by": "key",
    "groupby": "key",
    "dimensions": "key",
    "measures": "aggregates",
    "metrics": "aggregates",
    "columns": "derive",
    "timestamp": "event_time",
    "time": "event_time",
    "schema": "record",
    "primary_key": "identity",
    "id": "identity",
}


class Declared(ABCMeta):
    """The metaclass of everything that a user constructs to declare something; subclasses of a user's own have it too."""

    def __new__(mcs, *args: Any, **kwargs: Any) -> "Declared":
        try:
            return super().__new__(mcs, *args, **kwargs)
        except DefinitionError as error:  # an __init_subclass__ that refuses the class
            error.place = error.place or innermost(_callers())
            raise

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return _construct(super().__call__, cls.__name__, lambda: cls.__signature__, args, kwargs)

    @property
    def __signature__(cls) -> inspect.Signature:
        """The signature that `help` and editors show: the class's own, not that of the call above."""
        whole = inspect.signature(cls.__init__)  # type: ignore[misc]  # of this class, whichever it is
        return whole.replace(parameters=list(whole.parameters.values())[1:], return_annotation=whole.empty)


def declares(function: Callable[P, R]) -> Callable[P, R]:
    """The same for a function that declares something."""

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        made: R = _construct(function, function.__name__, lambda: inspect.signature(function), args, kwargs)
        return made

    return checked


def _construct(
    make: Callable[..., Any], name: str, signature: Callable[[], inspect.Signature], args: Any, kwargs: dict[str, Any]
) -> Any:
    try:
        return make(*args, **kwargs)
    except DefinitionError as error:
        error.place = error.place or innermost(_callers())
        raise
    except TypeError:
        text = wrong_arguments(name, signature(), len(args), kwargs)
        if text is None:
            raise
        wrong = DefinitionError(text)
        wrong.place = innermost(_callers())
        raise wrong from None


def wrong_arguments(name: str, signature: inspect.Signature, by_place: int, by_name: Iterable[str]) -> str | None:
    """The message for arguments that the signature does not take, naming those that it does; None when it takes them."""
    parameters = signature.parameters.values()
    have = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    placed = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    listed = [p.name for p in parameters if p.kind is p.VAR_POSITIONAL]
    given = list(by_name)
    it_has = (
        f"it has {', '.join(have)}."
        if have
        else f"it takes its {listed[0]} one after the other."
        if listed
        else "it takes nothing."
    )
    for one in given:
        if one not in have:
            meant = OTHER_WORDS.get(one)
            hint = f" Did you mean {meant!r}?" if meant in have else did_you_mean(one, have)
            return f"{name} has no {one!r}; {it_has}{hint}"
    if by_place > len(placed) and not listed:
        return f"{name} takes {f'{len(placed)} arguments' if placed else 'no argument'} by place, and is given {by_place}; {it_has}"
    twice = [one for one in placed[:by_place] if one in given]
    if twice:
        return f"{name} is given {twice[0]!r} by its place and by its name; give it once"
    needed = [p.name for p in parameters if p.name in have and p.default is p.empty]
    missing = [one for one in needed if one not in given and one not in placed[:by_place]]
    if missing:
        return f"{name} lacks {', '.join(map(repr, missing))}; needed are {', '.join(needed)}"
    return None


def innermost(frames: Iterable[Frame], module: str = "") -> str | None:
    """file:line of the first frame (given innermost first) of a user's: not ours, not Python's own, not generated; None if there is none.

    With `module`, code of other installed packages counts only when there is nothing else: an error inside pandas is looked for
    where that module called it.
    """
    users = [frame for frame in frames if not _is_machinery(frame[0])]
    if module:
        users = [frame for frame in users if _belongs(frame[0], module)] or users
    if not users:
        return None
    frame, line = users[0]
    return place(frame.f_code.co_filename, line)


def users_file() -> str | None:
    """The file of the innermost line of a user's code that is being run; None in a console."""
    users = (frame.f_code.co_filename for frame, _ in _callers() if not _is_machinery(frame))
    return next((file for file in users if not file.startswith("<")), None)


def place(file: str, line: int | None) -> str:
    """file:line, the file as seen from the working directory; for code without a file, as in a console, its line."""
    if file.startswith("<"):
        return f"line {line} of {file}"
    here = Path(file)
    try:
        shown = here.relative_to(Path.cwd())
    except (ValueError, FileNotFoundError):
        shown = here
    return f"{shown}:{line}" if line else str(shown)


def is_ours(module: str) -> bool:
    """True when the module of that name is one of Watershed's own packages; `views` is the user's."""
    return module.partition(".")[0] in OURS


def _callers() -> Iterator[Frame]:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame, frame.f_lineno
        frame = frame.f_back


def _is_machinery(frame: FrameType) -> bool:
    """True for Watershed's, Python's own, or generated code: the `__init__` of a dataclass, an annotation that typing evaluates."""
    file, name = frame.f_code.co_filename, frame.f_code.co_name
    if is_ours(str(frame.f_globals.get("__name__"))) or file.startswith("<frozen ") or _is_standard(file):
        return True
    caller = frame.f_back
    called_by_python = caller is not None and _is_standard(caller.f_code.co_filename)
    return file == "<string>" and (name.startswith("__") or called_by_python)


def _is_standard(file: str) -> bool:
    return file.startswith(STANDARD) and not any(folder in file for folder in INSTALLED)


def _belongs(frame: FrameType, module: str) -> bool:
    own = str(frame.f_globals.get("__name__")).partition(".")[0] == module.partition(".")[0]
    file = frame.f_code.co_filename
    return own or not (file.endswith(COMPILED) or any(folder in file for folder in INSTALLED))


class Compared(metaclass=Declared):
    """Equal by `_same()`, which a class gives where the fields themselves cannot be compared (an Expression's == raises)."""

    def _same(self) -> tuple[Any, ...]:
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        return self._same() == other._same() if isinstance(other, type(self)) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._same())
