"""Loads with everything that follows from them: the version is made, adopted by every topic that looks its table up, and shown in Postgres.

    done  <=>  made, and every generation in force that looks the table up has it or a later version, and so has tables.<name>

Each of the three may be done twice, by anybody; a process that dies in between leaves them to the next run.
"""

from dataclasses import dataclass, field
from functools import cached_property

from ingestion.loading.load import Loader, Say
from pipeline.definition.table import Table
from pipeline.fold.in_force import VersionRows
from pipeline.handover import Cut, Generation
from pipeline.settings import by_source
from serving.ops.table_versions import LoadedVersion
from serving.stores.tables import PostgresTableStore
from tasks.context import Context


@dataclass
class Loads:
    """Loads with everything that follows from them, on one process's parts."""

    parts: Context
    say: Say = lambda what, rows: None
    store: PostgresTableStore = field(init=False)

    def __post_init__(self) -> None:
        self.store = PostgresTableStore(self.parts.engine, self.parts.crash)

    @cached_property
    def loader(self) -> Loader:
        """Makes versions."""
        readers = self.parts.settings.load_readers
        return Loader(self.store, self.parts.lake, self._secret, self.say, self.parts.crash, readers=readers)

    def _secret(self, name: str) -> str:
        return self.parts.settings.origin_secret(name).get_secret_value()

    def load(self, table: Table, name: str) -> tuple[LoadedVersion, list[Cut]]:
        """The version of the load of that name, adopted and shown; and the cuts from which on it is in force, one a topic."""
        self.store.set_up()
        made = self.loader.load(table, name)
        return made, self.finish(table, made)

    def finish(self, table: Table, made: LoadedVersion) -> list[Cut]:
        """Adopt and show a version that is made; the cuts from which on it is in force, one a topic."""
        cuts = [self._adopt(generation, table.name, made.version) for generation in self._looking_up(table.name)]
        self.parts.crash.reach("load.adopted")
        self.store.expose(table, made.version, VersionRows(self.parts.lake, table, made.version))
        return cuts

    def is_done(self, table: Table, name: str) -> bool:
        """True when nothing is left to do for the load of that name."""
        versions = self.store.versions(table.name)
        mine = next((one for one in versions if one.load == name and one.manifest is not None), None)
        if mine is None or not any(one.exposed_at is not None and one.version >= mine.version for one in versions):
            return False
        return all(
            dict(self.parts.store.ledger(generation)[-1].versions).get(table.name, 0) >= mine.version
            for generation in self._looking_up(table.name)
        )

    def _looking_up(self, table: str) -> list[Generation]:
        """The generations in force whose views look the table up, be they those that are loaded here or not."""
        found = [self.parts.store.active(topic) for topic in by_source(self.parts.views)]
        return [one for one in found if one is not None and table in dict(self.parts.store.ledger(one)[-1].versions)]

    def _adopt(self, generation: Generation, table: str, version: int) -> Cut:
        ends = tuple(self.parts.log.end_offsets(generation.topic))
        return self.parts.store.adopt(generation, {table: version}, ends)
