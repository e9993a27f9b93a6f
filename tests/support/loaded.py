"""Loads of tables into a lake and a real Postgres of a test's own, without the rest of the system."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ingestion.loading.load import Loader
from pipeline.definition.table import Table
from pipeline.fold.in_force import read_version
from pipeline.lake.lake import Lake
from serving.postgres.connection import engine
from serving.stores.tables import PostgresTableStore


class Loads:
    """A lake, a store that is set up, and loads of any table, each told by its rows."""

    def __init__(self, lake: Path, url: str, secrets: Mapping[str, str] | None = None) -> None:
        self.lake, self.store = Lake(str(lake)), PostgresTableStore(engine(url))
        self.store.set_up()
        self.loader = Loader(self.store, self.lake, lambda name: (secrets or {})[name])

    def load(self, table: Table, name: str) -> list[dict[str, Any]]:
        """The rows of the version that the load of that name makes."""
        return self.rows(table, self.loader.load(table, name).version)

    def rows(self, table: Table, version: int) -> list[dict[str, Any]]:
        """The rows of a version."""
        return read_version(self.lake, table, version).to_pylist()


__all__ = ["Loads"]
