"""The compiled reader of Avro reads no byte behind its buffer: a page that must not be touched lies there, in a process of its own.

ABORT would be a segmentation fault: the child's exit code is -11.
"""

from __future__ import annotations

import subprocess
import sys

from tests.support.system import ROOT

CHILD = '''
import ctypes, mmap, random, sys
import numpy as np
import pyarrow as pa
from pipeline import Avro
from pipeline.decode.avro_blocks import decode
from tests.support.avro import Registry, Schemas, framed

PAGE = mmap.PAGESIZE
held = mmap.mmap(-1, 2 * PAGE)
start = ctypes.addressof(ctypes.c_char.from_buffer(held))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.mprotect(ctypes.c_void_p(start + PAGE), PAGE, 0) == 0
memory = np.frombuffer(held, np.uint8, PAGE)


def at_the_end(value):
    """The value as the last bytes before the page that must not be touched."""
    memory[PAGE - len(value):] = np.frombuffer(value, np.uint8)
    data = pa.foreign_buffer(start + PAGE - len(value), len(value), held)
    return pa.Array.from_buffers(pa.binary(), 1, [None, pa.py_buffer(np.array([0, len(value)], np.int32)), data])


aborts, tried = "ABORT" in sys.argv, 0
made = Schemas(random.Random(4))
while tried < (1 if aborts else 10_000):
    schema = made.event()
    registry, source = Registry(schema), made.source(schema, Avro())
    for _ in range(8):
        value = framed(1, made.body(schema))
        for size in range(max(1, min(len(value), PAGE) - 40), min(len(value), PAGE) + 1):
            decode(source, at_the_end(value[:size]), registry)
            tried += 1
print(tried, "cut off, none read on")
if aborts:
    memory[0] = np.frombuffer(held, np.uint8)[PAGE]
'''


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CHILD, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )


def test_no_event_cut_off_at_any_byte_is_read_beyond_its_end() -> None:
    done = run()
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) >= 10_000, done.stdout


def test_the_page_behind_the_buffer_would_be_noticed() -> None:
    done = run("ABORT")
    assert done.returncode == -11 and "none read on" in done.stdout, done.stderr
