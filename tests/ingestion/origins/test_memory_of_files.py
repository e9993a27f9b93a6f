"""A file of any size is read and typed in bounded memory: measured in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.project.test_structure import ROOT

CODE = """
import sys, time, json
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Annotated
from ingestion import Files
from ingestion.origin import Reading
from ingestion.typed import typed
from pipeline import Scale
@dataclass(frozen=True)
class Row:
    id: int
    name: str
    day: date
    price: Annotated[Decimal, Scale(2)]
    ratio: float
    ok: bool
    code: str | None
    note: str | None
def peak():
    with open("/proc/self/status") as status:  # not ru_maxrss: a process begins with that of the one that forked it
        return 1024 * next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
origin, reading = Files(sys.argv[1]), Reading(secret=str)
count = rejected = 0
began = time.perf_counter()
for part in origin.parts(reading):
    for rows in origin.read(part, reading):
        if sys.argv[2] == "typed":
            out = typed(rows, Row, origin.textual)
            count, rejected = count + out.accepted.num_rows, rejected + len(out.rejected)
        else:
            count += rows.batch.num_rows
print(json.dumps({"rows": count, "rejected": rejected, "peak": peak(), "s": time.perf_counter() - began}))
"""
BLOCK = "".join(
    f'{n},"name, {n}",2013-01-{n % 28 + 1:02},{n}.25,{n / 7},{"true" if n % 2 else "false"},C{n % 97},{"some note" if n % 3 else ""}\n'
    for n in range(50_000)
).encode()
HEADER = b"id,name,day,price,ratio,ok,code,note\n"


def measured(path: Path, what: str) -> dict[str, float]:
    command = [sys.executable, "-c", CODE, str(path), what]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    found: dict[str, float] = json.loads(done.stdout)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("what", ["read", "typed"])
def test_a_file_of_some_hundred_megabytes_takes_no_more_than_a_small_one(tmp_path: Path, what: str) -> None:
    small, large = tmp_path / "small.csv", tmp_path / "large.csv"
    small.write_bytes(HEADER + BLOCK * 4)
    with large.open("wb") as out:
        out.write(HEADER)
        for _ in range(100):
            out.write(BLOCK)
    one, other = measured(small, what), measured(large, what)
    assert other["rows"] == 5_000_000 and other["rejected"] == 0
    size = large.stat().st_size
    print(f"{size / 1e6 / other['s']:.0f} MB/s, {other['rows'] / other['s']:.0f} rows/s, {other['peak'] / 1e6:.0f} MB")
    assert other["peak"] < 500e6 and other["peak"] < one["peak"] + 100e6
