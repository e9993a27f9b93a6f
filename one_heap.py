"""One heap for all threads of a process: what one thread gives back serves the others.

    heaps = 1        if it is called before pyarrow is imported, which starts threads: a heap that is there stays in use

By default glibc gives each thread a heap of its own, and keeps what was freed in it for that one: a third of a night's peak. A module
by itself, since whatever is imported from a package of ours imports pyarrow.
"""

import ctypes

M_ARENA_MAX = -8  # of glibc's malloc.h


def one_heap() -> None:
    """Nothing with a C library other than glibc."""
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(M_ARENA_MAX, 1)
