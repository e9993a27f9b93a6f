"""A kernel is compiled once for the types it declares, kept (kernels.cache), and called with whatever converts to them.

    arrays are C-contiguous; one that a kernel only reads may be read-only or not: one compiled form for both

Without declared types numba compiles a form for each mixture of read-only and other arrays that it meets, whenever it meets it. So all
that a set of views needs is known beforehand (`needed`), and a worker is not held up by a compiler in the middle of the day. A call with
types that do not convert raises TypeError.
"""

import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar, cast

from numba import types
from numba.core.caching import _Cache
from numba.core.compiler import CompileResult
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import CPUDispatcher
from numba.core.serialize import dumps

from pipeline.kernels import cache

Signature = tuple[Any, ...]
Function = TypeVar("Function", bound=Callable[..., Any])

INT64 = types.int64
INTS = types.Array(types.int64, 1, "C")
READ_INTS = types.Array(types.int64, 1, "C", readonly=True)
READ_INTS32 = types.Array(types.int32, 1, "C", readonly=True)
INT_TABLE = types.Array(types.int64, 2, "C")
READ_INT_TABLE = types.Array(types.int64, 2, "C", readonly=True)
INTS32 = types.Array(types.int32, 1, "C")
READ_BYTES = types.Array(types.uint8, 1, "C", readonly=True)
READ_MASK = types.Array(types.boolean, 1, "C", readonly=True)
WORDS = types.Array(types.uint64, 2, "C")
READ_WORDS = types.Array(types.uint64, 2, "C", readonly=True)

KERNELS: list["Kernel"] = []
LARGEST = (
    "json.parse_events",
    "protobuf.parse_messages",
    "sketches.lift_registers",
)  # a third of the time: begun first
MOST_HELPERS = 4


class _Kept(_Cache):
    """Store that numba asks for compiled code: a file for each kernel and signature, so that processes that compile at once do not meet."""

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def cache_path(self) -> str:
        return str(cache.root())

    def name_of(self, signature: Any, codegen: Any) -> str:
        """The file's name."""
        wanted = repr((self._name, signature, codegen.magic_tuple()))
        return f"{self._name}-{hashlib.sha256(wanted.encode()).hexdigest()[:24]}"

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        target_context.refresh()
        held = cache.load(self.name_of(sig, target_context.codegen()))
        return None if held is None else CompileResult._rebuild(target_context, *held)  # type: ignore[no-untyped-call]

    def save_overload(self, sig: Any, data: Any) -> None:
        assert not data.lifted and not data.library.has_dynamic_globals, f"{self._name}: a kernel that cannot be kept"
        cache.save(self.name_of(sig, data.codegen), dumps(data._reduce()))  # type: ignore[no-untyped-call]

    def enable(self) -> None:
        """Do nothing: the cache is always on."""

    def disable(self) -> None:
        """Do nothing: the cache is never off."""

    def flush(self) -> None:
        """Nothing is held back."""


class Kernel(CPUDispatcher):
    """A compiled function with its declared signatures."""

    _can_compile: bool
    targetctx: Any

    def __init__(self, function: Callable[..., Any], signatures: Sequence[Signature]) -> None:
        super().__init__(py_func=function, targetoptions={"nopython": True, "nogil": True})
        self.__doc__, self.__name__, self.__module__ = function.__doc__, function.__name__, function.__module__
        self.signatures_declared = tuple(signatures)
        self.title = f"{function.__module__.rpartition('.')[2]}.{function.__name__}"
        self.compiled_s = 0.0  # on the clock, in this process; loading is not counted
        self._cache = _Kept(self.title)

    def ready(self) -> None:
        """Load it, or compile it and keep what was compiled; nothing when that was done."""
        with global_compiler_lock:
            if self._can_compile:
                kept = self.is_kept()
                began_s = time.perf_counter()
                for signature in self.signatures_declared:
                    self.compile(signature)
                self.compiled_s = 0.0 if kept else time.perf_counter() - began_s
                self.disable_compile()

    def is_kept(self) -> bool:
        """True when ready() has only to load."""
        self.targetctx.refresh()
        names = (self._cache.name_of(signature, self.targetctx.codegen()) for signature in self.signatures_declared)
        return not self._can_compile or all(cache.holds(name) for name in names)

    def _compile_for_args(self, *args: Any, **kws: Any) -> Any:
        """numba's way in at a first call: what is given back is called with the arguments."""
        self.ready()
        return self

    def get_call_template(self, args: Any, kws: Any) -> Any:
        """numba's way in when another kernel calls this one."""
        self.ready()
        return super().get_call_template(args, kws)


def kernel(*signatures: Signature) -> Callable[[Function], Function]:
    """Compile the function for these types, without the interpreter's lock; on first use, or when ready() is called."""

    def declared(function: Function) -> Function:
        KERNELS.append(Kernel(function, signatures))
        return cast(Function, KERNELS[-1])

    return declared


def needed(*modules: str) -> list[Kernel]:
    """The kernels of these modules of pipeline.kernels, in the order in which they stand."""
    for module in modules:
        import_module(f"pipeline.kernels.{module}")
    return [one for one in KERNELS if one.title.partition(".")[0] in modules]


def compile_all(kernels: Iterable[Kernel], done: Callable[[str], None]) -> None:
    """Make each ready, many of them by helping processes, one for each processor; `done` is called with a title when one is begun."""
    wanted = sorted(kernels, key=lambda one: one.title not in LARGEST)
    helpers = min(os.cpu_count() or 1, MOST_HELPERS, len(wanted) // 4)
    if helpers > 1 and cache.folder() is not None:
        _by_helpers(wanted, done, helpers)
    else:
        for one in wanted:
            done(one.title)
            one.ready()
    for one in wanted:
        one.ready()


def _by_helpers(wanted: Sequence[Kernel], done: Callable[[str], None], helpers: int) -> None:
    """Numba compiles one function at a time in a process. What a helper leaves undone is left to the caller."""
    waiting, lock = list(reversed(wanted)), threading.Lock()
    paths = os.pathsep.join(str(Path(path).absolute()) for path in sys.path)
    environment = {**os.environ, "PYTHONPATH": paths, cache.VARIABLE: str(cache.root())}

    def attend() -> None:
        command = [sys.executable, "-P", "-c", f"from {__name__} import help; help()"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen(command, env=environment, text=True, **pipes) as helper:  # type: ignore[call-overload]
            told: str | None = ""
            while told is not None:
                with lock:
                    if not waiting:
                        break
                    title = waiting.pop().title
                    done(title)
                told = _ask(helper, title)
            helper.communicate()

    with ThreadPoolExecutor(helpers) as pool:
        for one in [pool.submit(attend) for _ in range(helpers)]:
            one.result()


def _ask(helper: Any, title: str) -> str | None:
    """Answer of the process; None when it has ended, and has said why on standard error."""
    try:
        print(title, file=helper.stdin, flush=True)
    except BrokenPipeError:
        return None
    return helper.stdout.readline().strip() or None


def help() -> None:
    """Compile the kernels whose titles come in, and say so after each."""
    for line in sys.stdin:
        title = line.strip()
        for one in needed(title.partition(".")[0]):
            if one.title == title:
                one.ready()
        sys.stdout.write(f"{title}\n")
        sys.stdout.flush()
