"""f, computed slowly and obviously: one record at a time, in Python's own integers, Decimals, Fractions and dicts.

    Reference(views) fed with log[0, position)  =  f(log[0, position))  =  what Postgres must answer

It shares the definitions with both layers, and no line of what computes: no kernel, no array, no Arrow compute. So
equality with it says that f is right, where equality of the layers only says that the hand-over is.
"""

from pipeline.plain.reference import Reference, records_of

__all__ = ["Reference", "records_of"]
