"""Folder of compiled kernels: one of the user's own, with one below it for each state of the sources.

    same folder  =>  same sources of all kernels and what they import, same numba, llvmlite, NumPy, Python, processor and options

So a fresh clone, a worktree and an installed wheel share what is the same code, and no kernel runs with a callee that was changed since:
numba itself looks at the one file that a kernel stands in. The folder is the setting `kernel_cache` (WATERSHED_KERNEL_CACHE), else
`watershed` in the user's cache folder (XDG). What lies there is executed, so a folder that others may write is refused.
"""

import hashlib
import os
import pickle
import pkgutil
import platform
import shlex
import shutil
import stat
import uuid
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipeline.base.errors import SettingsError

VARIABLE = "WATERSHED_KERNEL_CACHE"
OTHERS = ("pipeline.base.types",)  # modules that kernels take constants from
KEPT = 4  # folders of other states: a branch that one comes back to
OPTIONS = (
    "OPT",
    "CPU_NAME",
    "CPU_FEATURES",
    "ENABLE_AVX",
    "LOOP_VECTORIZE",
    "SLP_VECTORIZE",
    "BOUNDSCHECK",
    "DEBUGINFO_DEFAULT",
)
_DIGEST = 32

_chosen: Path | None = None


def _sources() -> Iterator[bytes]:
    """The names and contents of all that kernels are compiled from, as it is on the disk now."""
    package = find_spec("pipeline.kernels")
    assert package is not None and package.submodule_search_locations is not None
    found = pkgutil.iter_modules(package.submodule_search_locations)
    for name in sorted([*(f"pipeline.kernels.{module.name}" for module in found), *OTHERS]):
        spec: Any = find_spec(name)
        yield name.encode()
        yield hashlib.sha256(spec.loader.get_data(spec.origin)).digest()


def sources_digest() -> str:
    """SHA-256 of the kernels' sources on the disk, wherever they are installed."""
    return hashlib.sha256(b"".join(_sources())).hexdigest()


IMPORTED = sources_digest()  # before any kernel is: see folder()


def keep_in(folder: Path | str | None) -> None:
    """Keep compiled code in this folder from now on; None: in the default one. It is made, or refused, when the first kernel is used."""
    global _chosen
    _chosen = Path(folder) if folder else None


def root() -> Path:
    """The folder that is set, by keep_in or the environment, or the user's cache folder; it need not be there yet."""
    if _chosen is not None:
        return _chosen.expanduser().absolute()
    if given := os.environ.get(VARIABLE):
        return Path(given).expanduser().absolute()
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        return (base if base.is_absolute() else Path.home() / ".cache") / "watershed"
    except RuntimeError as error:
        raise SettingsError(f"there is no place for compiled code: {error}; {_repair()}") from None


@cache
def key() -> str:
    """Key under which compiled code may be shared, from all that decides it, as 20 hexadecimal digits."""
    from llvmlite import binding
    from numba import config

    parts = [
        IMPORTED,
        *(f"{name} {version(name)}" for name in ("numba", "llvmlite", "numpy")),
        f"{platform.python_implementation()} {platform.python_version()} {platform.system()} {platform.machine()}",
        binding.get_host_cpu_name(),
        binding.get_host_cpu_features().flatten(),
        *(f"{name}={getattr(config, name, None)!r}" for name in OPTIONS),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:20]


def folder() -> Path | None:
    """The folder of this state of the sources, made if need be; SettingsError when others may write it, or it cannot be made.

    None when the sources were changed since this process imported them: what it compiles is then nobody else's code.
    """
    if sources_digest() != IMPORTED:
        return None
    return _made(root(), key())


@cache
def _made(above: Path, name: str) -> Path:
    found = above / f"kernels-{name}"
    try:
        _make(above)
        refuse_others(above.resolve(), above)
        fresh = not found.exists()
        found.mkdir(mode=0o700, exist_ok=True)
        refuse_others(found, found)
        os.utime(found)
    except OSError as error:
        raise SettingsError(f"compiled code cannot be kept in {above}: {error.strerror}; {_repair()}") from None
    if fresh:
        _prune(found)
    return found


def _make(path: Path) -> None:
    """A folder, and those above it that are missing, that nobody else may enter."""
    if not path.exists():
        _make(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)


def refuse_others(path: Path, said: Path) -> None:
    """SettingsError, naming `said`, unless `path` is a folder of ours that nobody else may write."""
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode):
        raise SettingsError(f"compiled code cannot be kept in {said}: it is no folder; {_repair()}")
    if found.st_uid != os.geteuid():
        whose = f"it belongs to user {found.st_uid}, not to {os.geteuid()}"
        raise SettingsError(f"compiled code is not taken from {said}: {whose}; {_repair()}")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        mend = f"chmod go-w {shlex.quote(str(said))}"
        raise SettingsError(
            f"compiled code is not taken from {said}: others may write it; run `{mend}`, or {_repair()}", repair=mend
        )


def _repair() -> str:
    return f"set `kernel_cache` ({VARIABLE}) to a folder of your own"


def _prune(new: Path) -> None:
    """Delete the folders of other states, but for the KEPT that were used last."""
    others = [p for p in new.parent.glob("kernels-*") if p != new and p.is_dir() and not p.is_symlink()]
    for old in sorted(others, key=_used, reverse=True)[KEPT:]:
        shutil.rmtree(old, ignore_errors=True)


def _used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # another process prunes as well
        return 0.0


def load(name: str) -> Any | None:
    """Bytes saved under the name; None when there are none, or they are damaged: a full disk, a machine that lost power."""
    place = folder()
    if place is None:
        return None
    try:
        held = (place / name).read_bytes()
    except FileNotFoundError:
        return None
    if hashlib.sha256(held[_DIGEST:]).digest() != held[:_DIGEST]:
        return None
    return pickle.loads(held[_DIGEST:])


def save(name: str, pickled: bytes) -> None:
    """Keep it under the name, whole or not at all, whoever else does so at the same time."""
    place = folder()
    if place is None:
        return
    place.mkdir(mode=0o700, exist_ok=True)  # another process may have pruned it
    temporary = place / f"{name}.{uuid.uuid4().hex[:12]}"
    try:
        temporary.write_bytes(hashlib.sha256(pickled).digest() + pickled)
        temporary.replace(place / name)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise SettingsError(f"compiled code cannot be kept in {place}: {error.strerror}; {_repair()}") from None


def holds(name: str) -> bool:
    """True when something is kept under the name."""
    place = folder()
    return place is not None and (place / name).exists()
