"""Memory that is used again: what a block's arrays gave back serves the next block's.

    pages that the kernel has to zero = those of the largest block so far, not those of every block

By default large arrays are mapped anew each time, and their pages zeroed by the kernel: a quarter of a worker's time on a backlog.
"""

import ctypes
import gc
from functools import cache

import pyarrow as pa

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
KEPT_BYTES = 128 * 1024 * 1024  # at the top of the heap
MAPPED_BYTES = 32 * 1024 * 1024  # larger ones are mapped by themselves, and given back at once


@cache
def reuse_memory() -> None:
    """For a process that takes block after block: call it when its modules are loaded and before its threads start; once is enough.

    Arrow's buffers lie in the one heap of all threads too: our commands have asked for that first of all (one_heap.py). What is loaded
    by now is never looked at by the garbage collector again.
    A C library other than glibc is left as it is.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        for option, value in ((M_MMAP_THRESHOLD, MAPPED_BYTES), (M_TRIM_THRESHOLD, KEPT_BYTES)):
            library.mallopt(option, value)
        pa.set_memory_pool(pa.system_memory_pool())
    gc.collect()
    gc.freeze()
