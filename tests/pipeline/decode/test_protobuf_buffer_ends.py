"""The compiled reader of Protobuf reads no byte behind its buffer: a page that must not be touched lies there, in a process of its own.

ABORT would be a segmentation fault: the child's exit code is -11.
"""

from __future__ import annotations

import subprocess
import sys

from tests.support.system import ROOT

CHILD = """
import ctypes, mmap, random, sys
import numpy as np
import pyarrow as pa
from dataclasses import replace
from pipeline import Protobuf
from pipeline.decode.protobuf_blocks import decode
from pipeline.decode.schemas import NoSchemas, Schema
from tests.support.protobufs import BROKEN, PIECES, PROTO, SOURCE, STRANGE, framed, made

PAGE = mmap.PAGESIZE
held = mmap.mmap(-1, 2 * PAGE)
start = ctypes.addressof(ctypes.c_char.from_buffer(held))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.mprotect(ctypes.c_void_p(start + PAGE), PAGE, 0) == 0
memory = np.frombuffer(held, np.uint8, PAGE)


class One:
    def schema(self, id):
        return Schema("PROTOBUF", PROTO)


def at_the_end(value):
    '''The value as the last bytes before the page that must not be touched.'''
    memory[PAGE - len(value):] = np.frombuffer(value, np.uint8)
    data = pa.foreign_buffer(start + PAGE - len(value), len(value), held)
    return pa.Array.from_buffers(pa.binary(), 1, [None, pa.py_buffer(np.array([0, len(value)], np.int32)), data])


registry = replace(SOURCE, format=Protobuf("shop.Payment"))
rng = random.Random(5)
messages = [piece for pieces in PIECES.values() for piece in pieces] + STRANGE + [b for b in BROKEN if len(b) < 4000]
messages += [made(rng) for _ in range(150)]
aborts = "ABORT" in sys.argv
tried = 0
for message in messages[:5] if aborts else messages:
    for size in range(max(1, len(message) - 40), len(message) + 1):
        decode(SOURCE, at_the_end(message[:size]), NoSchemas())
        tried += 1
    frame = framed(1, message[:40], b"\\2\\0")
    for size in range(1, len(frame) + 1):
        decode(registry, at_the_end(frame[:size]), One())
        tried += 1
print(tried, "cut off, none read on")
if aborts:
    memory[0] = np.frombuffer(held, np.uint8)[PAGE]
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CHILD, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )


def test_no_message_cut_off_at_any_byte_is_read_beyond_its_end() -> None:
    done = run()
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) > 10_000, done.stdout


def test_the_page_behind_the_buffer_would_be_noticed() -> None:
    done = run("ABORT")
    assert done.returncode == -11 and "none read on" in done.stdout, done.stderr
