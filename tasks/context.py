"""The real parts behind the Luigi tasks, opened once per process: Luigi's workers fork, and no connection survives that.

Invariant: context() in a process never returns what another process opened.
"""

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from pipeline.base.crash import CrashPoints, NoCrash, crash_points
from pipeline.base.errors import DefinitionError, Refused
from pipeline.decode.schemas import SchemasOf
from pipeline.definition.fingerprints import view_fingerprint
from pipeline.definition.table import Table
from pipeline.definition.view import View
from pipeline.handover import Generation
from pipeline.handover.patience import Patient
from pipeline.handover.replacement import GenerationStore
from pipeline.lake.lake import Lake
from pipeline.log.kafka.log import KafkaLog
from pipeline.log.log import Unreachable
from pipeline.settings import Settings, by_source
from serving.generations.replace import PostgresGenerationStore
from serving.postgres.connection import Engine, engine
from serving.stores.night import PostgresNightStore
from serving.stores.schemas import SchemaLedger
from tasks.night.night import Night

LOG = logging.getLogger("luigi-interface")


@dataclass
class Context:
    """Settings made real."""

    settings: Settings
    views: tuple[View, ...]
    lake: Lake
    log: KafkaLog
    engine: Engine
    store: PostgresNightStore
    generations: GenerationStore
    schemas: SchemasOf
    crash: CrashPoints = field(default_factory=NoCrash)
    opened_s: float = field(default_factory=time.monotonic)
    _nights: dict[tuple[str, int], Night] = field(default_factory=dict)

    @property
    def tables(self) -> tuple[Table, ...]:
        """The tables of the views module, and those that its views look up."""
        return self.settings.load_tables()

    @property
    def topics(self) -> list[str]:
        """The sources' topics, in order of declaration."""
        return list(by_source(self.views))

    @property
    def at_once(self) -> int:
        """Number of partitions that a night takes side by side."""
        return self.settings.night_partitions

    def night(self, topic: str, generation: int = 0) -> Night:
        """The night of a source in a generation; 0 is the active one, which must match the definition."""
        if (topic, generation) not in self._nights:
            if topic not in self.topics:
                raise DefinitionError(f"no view reads topic {topic!r}; there are {', '.join(self.topics)}")
            views = by_source(self.views)[topic]
            found = generation_for(self.generations, topic, generation, views)
            self._nights[topic, generation] = Night(
                views[0].source, views, found, self.store, self.log, self.lake, self.crash, schemas=self.schemas
            )
        return self._nights[topic, generation]


def generation_for(store: GenerationStore, topic: str, number: int, views: Sequence[View]) -> Generation:
    """The generation that a night of these definitions works on: the active one, or the one of that number while it is being made.

    0 is the active one. Refused when the definitions are not those on record, or the generation is retired.
    """
    building = store.building(topic)
    if (
        building is not None
        and building.number == number
        and dict(building.views) == {v.name: view_fingerprint(v) for v in views}
    ):
        return building
    active = store.require(views[0].source, views)
    if number not in (0, active.number):
        raise Refused(
            f"generation {number} of topic {topic} is retired; generation {active.number} is in force: run the night again"
        )
    return active


@lru_cache(maxsize=1)
def _open(pid: int) -> Context:
    settings = Settings.load()
    views = settings.load_views()
    crash = crash_points()
    lake = Lake(settings.lake, crash)
    patience_s = settings.start_patience_s
    log = KafkaLog(settings.kafka_connection(), caller=Patient((Unreachable,), patience_s, LOG.warning))
    database = engine(
        settings.postgres_url(), application_name="watershed night", outage_patience_s=patience_s, say=LOG.warning
    )
    generations = PostgresGenerationStore(database, crash)
    store = PostgresNightStore(database, views, crash=crash)
    schemas = SchemaLedger(database, settings.registry(), patience_s, LOG.warning)
    return Context(settings, views, lake, log, database, store, generations, schemas, crash)


def context() -> Context:
    """The context of this process.

    A Postgres or Kafka that is away is waited for, `start_patience_s` at most for each transaction and each question.
    """
    return _open(os.getpid())
