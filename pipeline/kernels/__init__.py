"""Compiled loops: Numba over NumPy arrays, no Python objects, the GIL released. Bump VERSION when one changes what it computes."""

VERSION = 1
