"""Where compiled code is kept: shared by equal sources alone, in a folder that nobody else may write, and by processes at once."""

from __future__ import annotations

import ast
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline import Count, Quantile, View, warm_up
from pipeline.base.errors import SettingsError
from pipeline.kernels import cache
from pipeline.kernels.compiling import INT64, READ_INTS, Kernel, compile_all
from pipeline.kernels.tables import number_codes
from pipeline.settings import Settings
from pipeline.warm_up import cold, kernels_of
from tests.support.system import wait_for
from views import VIEWS

ROOT = Path(__file__).resolve().parents[3]
REDUCE = """
import numpy as np
from pipeline.kernels.reduce import count_by_group
print(count_by_group(np.ones(3, np.bool_), np.zeros(3, np.int64), 1))
"""
GATHER = """
import numpy as np
from pipeline.kernels.json import gather_texts
text = gather_texts(np.array([104, 105], np.uint8), np.array([], np.uint8), np.array([0]), np.array([2]), np.array([0]))[1]
print(text.tobytes().decode(), sum(gather_texts.stats.cache_hits.values()))
"""


@pytest.fixture(autouse=True)
def own_place(tmp_path: Path) -> Iterator[Path]:
    """A folder of this test's own."""
    place = tmp_path / "compiled"
    cache.keep_in(place)
    yield place
    cache.keep_in(None)
    cache._made.cache_clear()


def child(code: str, place: Path, sources: Path = ROOT) -> str:
    """What a process that imports from `sources` prints."""
    environment = {**os.environ, "PYTHONPATH": str(sources), cache.VARIABLE: str(place)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def clone(at: Path) -> Path:
    """The sources that kernels need, elsewhere, with another time of change."""
    shutil.copytree(
        ROOT / "pipeline", at / "pipeline", ignore=shutil.ignore_patterns("__pycache__"), copy_function=shutil.copyfile
    )
    return at


def files(place: Path) -> dict[str, int]:
    return {str(p.relative_to(place)): p.stat().st_mtime_ns for p in sorted(place.rglob("*-*")) if p.is_file()}


def test_a_second_process_and_a_clone_elsewhere_compile_nothing(own_place: Path, tmp_path: Path) -> None:
    assert child(REDUCE, own_place) == "[3]"
    kept = files(own_place)
    assert [name.partition("/")[2].partition("-")[0] for name in kept] == ["reduce.count_by_group"]
    assert child(REDUCE, own_place, clone(tmp_path / "elsewhere")) == "[3]"
    assert files(own_place) == kept


def test_a_kernel_is_compiled_anew_when_a_function_that_it_calls_was_changed_in_another_file(
    own_place: Path, tmp_path: Path
) -> None:
    """numba's own cache looks at the file of the kernel alone: it would go on saying hi."""
    sources = clone(tmp_path / "changed")
    assert child(GATHER, own_place, sources) == "hi 0"
    assert child(GATHER, own_place, sources) == "hi 1"
    called = sources / "pipeline" / "kernels" / "bytes.py"
    text = called.read_text()
    assert "set_byte(target, at, byte(source, start))" in text
    called.write_text(text.replace("set_byte(target, at, byte(source, start))", "set_byte(target, at, 65)"))
    assert child(GATHER, own_place, sources) == "AA 0"
    called.write_text(text)
    assert child(GATHER, own_place, sources) == "hi 1"


def test_every_module_that_kernels_import_is_part_of_the_key() -> None:
    imported = set()
    for path in (ROOT / "pipeline" / "kernels").glob("*.py"):
        if path.name not in ("cache.py", "compiling.py"):
            imported |= {
                node.module for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)
            }
    ours = {
        name for name in imported if name and name.startswith("pipeline.") and not name.startswith("pipeline.kernels")
    }
    assert ours == set(cache.OTHERS)


def test_sources_that_changed_under_a_process_are_neither_kept_nor_taken(
    own_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cache.folder() is not None
    monkeypatch.setattr(cache, "IMPORTED", "of another time")
    assert cache.folder() is None
    cache.save("x-1", b"x")
    assert cache.load("x-1") is None and not cache.holds("x-1")
    assert files(own_place) == {}


def test_the_folder_is_the_users_alone(own_place: Path) -> None:
    found = cache.folder()
    assert found is not None and found.parent == own_place
    assert [stat.S_IMODE(p.stat().st_mode) for p in (own_place, found)] == [0o700, 0o700]


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o722])
def test_a_folder_that_others_may_write_is_refused(own_place: Path, mode: int) -> None:
    own_place.mkdir()
    own_place.chmod(mode)
    with pytest.raises(
        SettingsError,
        match=r"others may write it; run `chmod go-w .*`, or set `kernel_cache` \(WATERSHED_KERNEL_CACHE\)",
    ):
        cache.folder()


def test_a_folder_below_it_that_others_may_write_is_refused(own_place: Path) -> None:
    inner = own_place / f"kernels-{cache.key()}"
    inner.mkdir(parents=True)
    own_place.chmod(0o700)
    inner.chmod(0o777)
    with pytest.raises(SettingsError, match="others may write it"):
        cache.folder()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder of somebody else")
def test_a_folder_of_somebody_else_is_refused(own_place: Path) -> None:
    own_place.mkdir(mode=0o700)
    os.chown(own_place, 12345, -1)
    with pytest.raises(SettingsError, match="belongs to user 12345, not to 0"):
        cache.folder()


def test_a_link_that_somebody_put_below_the_folder_is_refused(own_place: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir(mode=0o700)
    own_place.mkdir(mode=0o700)
    (own_place / f"kernels-{cache.key()}").symlink_to(tmp_path / "theirs")
    with pytest.raises(SettingsError, match="it is no folder"):
        cache.folder()


def test_a_place_that_is_no_folder_is_one_line_of_error(own_place: Path) -> None:
    own_place.write_text("a file")
    with pytest.raises(SettingsError, match=r"compiled code cannot be kept in .*set `kernel_cache`") as error:
        cache.folder()
    assert "\n" not in str(error.value)


def test_the_place_is_the_setting_then_the_users_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "by setting"))
    monkeypatch.chdir(tmp_path)
    Settings.load()
    assert cache.root() == tmp_path / "by setting"
    monkeypatch.delenv(cache.VARIABLE)
    (tmp_path / "luigi.cfg").write_text("[watershed]\nkernel_cache = by luigi.cfg\n")
    Settings.load()
    assert cache.root() == tmp_path / "by luigi.cfg"
    (tmp_path / "luigi.cfg").unlink()
    Settings.load()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.root() == tmp_path / "xdg" / "watershed"
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")  # the standard says: ignore it
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache.root() == tmp_path / "home" / ".cache" / "watershed"


def test_damaged_code_is_as_good_as_none(own_place: Path) -> None:
    cache.save("x-1", b"\x80\x04K\x07.")
    assert cache.load("x-1") == 7
    place = cache.folder()
    assert place is not None
    whole = (place / "x-1").read_bytes()
    for damaged in (b"", whole[:20], whole[:-1], whole[:-1] + b"!"):
        (place / "x-1").write_bytes(damaged)
        assert cache.load("x-1") is None
    cache.save("x-1", b"\x80\x04K\x07.")
    assert cache.load("x-1") == 7


def test_old_folders_go_when_a_new_one_is_made_and_the_last_used_stay(own_place: Path) -> None:
    own_place.mkdir(mode=0o700)
    for age in range(8):
        old = own_place / f"kernels-{age}"
        old.mkdir()
        os.utime(old, (1000 - age, 1000 - age))
    (own_place / "something else").mkdir()
    found = cache.folder()
    assert found is not None
    left = {p.name for p in own_place.iterdir()}
    assert left == {found.name, "something else", *(f"kernels-{age}" for age in range(cache.KEPT))}


def test_a_folder_that_was_pruned_meanwhile_is_made_again(own_place: Path) -> None:
    place = cache.folder()
    assert place is not None
    place.rmdir()
    cache.save("x-1", b"\x80\x04K\x07.")
    assert cache.load("x-1") == 7


def test_one_compiled_form_takes_read_only_and_other_arrays() -> None:
    codes = np.array([4, 4, 2], np.int64)
    once = [part.tolist() for part in number_codes(codes, 5)]
    codes.flags.writeable = False
    assert [part.tolist() for part in number_codes(codes, 5)] == once == [[0, 0, 1], [0, 2]]
    assert isinstance(number_codes, Kernel) and number_codes.signatures_declared == ((READ_INTS, INT64),)
    assert len(number_codes.overloads) == 1


def test_a_type_that_was_not_declared_is_refused_before_anything_is_computed() -> None:
    for wrong in (
        np.array([1.5]),
        np.array([1], np.int32),
        np.array([1, 2, 3, 4], np.int64)[::2],
        np.zeros((2, 2), np.int64),
    ):
        with pytest.raises(TypeError, match="No matching definition"):
            number_codes(wrong, 5)


def test_views_need_the_kernels_of_sketches_only_if_they_have_one() -> None:
    def needs(*views: View) -> set[str]:
        return {one.title.partition(".")[0] for one in kernels_of(views)}

    plain = {"hashing", "json", "log_time", "records", "reduce", "tables"}
    assert needs(*VIEWS) == plain
    hourly = VIEWS[0]
    counted = View(name="v", source=hourly.source, key=hourly.key, window=hourly.window, aggregates={"n": Count()})
    assert needs(counted) == plain
    sketched = View(
        name="v",
        source=hourly.source,
        key=hourly.key,
        window=hourly.window,
        aggregates={"q": Quantile("temperature_f", 0.5)},
    )
    assert needs(counted, sketched) == plain | {"sketches"}


def test_what_is_not_kept_is_cold(own_place: Path) -> None:
    fresh = Kernel(number_codes.py_func, [(READ_INTS, INT64)])  # type: ignore[attr-defined]
    assert not fresh.is_kept()
    fresh.ready()
    assert fresh.is_kept()
    again = Kernel(number_codes.py_func, [(READ_INTS, INT64)])  # type: ignore[attr-defined]
    assert again.is_kept()
    again.ready()
    assert sum(again.stats.cache_hits.values()) == 1
    assert set(cold(VIEWS)) <= set(kernels_of(VIEWS))


def test_helping_processes_compile_and_nothing_is_left_to_compile_here(
    own_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    titles = ["reduce.count_by_group", "tables.number_codes", "tables.count_since", "tables.restore"] + [
        "records.gather"
    ] * 4
    by_title = {one.title: one for one in kernels_of(VIEWS)}
    fresh = [Kernel(by_title[title].py_func, by_title[title].signatures_declared) for title in titles]
    begun: list[str] = []
    compile_all(fresh, begun.append)
    assert sorted(begun) == sorted(titles)
    assert {name.partition("/")[2].partition("-")[0] for name in files(own_place)} == set(titles)
    assert [one.compiled_s for one in fresh] == [0.0] * len(fresh), "loaded, not compiled, by this process"


def test_what_a_helper_that_dies_leaves_undone_is_compiled_here(
    own_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    fresh = [Kernel(number_codes.py_func, [(READ_INTS, INT64)]) for _ in range(8)]  # type: ignore[attr-defined]
    compile_all(fresh, lambda title: None)
    assert all(one.is_kept() for one in fresh) and fresh[0].compiled_s > 0


@pytest.mark.parametrize(("shown_after_s", "shown"), [(0.0, True), (60.0, False)])
def test_on_a_terminal_a_bar_stands_for_what_takes_its_time(
    shown_after_s: float, shown: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(warm_up, "SHOWN_AFTER_S", shown_after_s)
    said: list[str] = []
    with warm_up._shown(3) as done:
        done("a.first")
        if shown:
            wait_for(lambda: said.append(capsys.readouterr().err) or "0/3" in "".join(said), "a bar is drawn", 30)
        done("b.second")
        done("c.third")
    said.append(capsys.readouterr().err)
    assert ("compiling, once" in "".join(said) and "2/3" in said[-1] and "c.third" in said[-1]) == shown
    assert shown or said == [""]


def test_elsewhere_one_line_says_how_many_and_where(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    with warm_up._shown(3) as done:
        done("a.first")
    assert capsys.readouterr().err == f"compiling 3 kernels, once, into {cache.folder()} ...\n"
