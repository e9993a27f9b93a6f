"""The sample that a command looks at: a topic's or a file's, as its options say; and the schemas that its records name."""

from pathlib import Path

from console.commands.waiting import patient_log
from ingestion.sample import Sample, of_file, of_topic
from pipeline.base.errors import SettingsError
from pipeline.decode.registry import Registry
from pipeline.decode.schemas import Schema
from pipeline.settings import Settings


def sample_of(topic: str | None, file: Path | None, records: int) -> Sample:
    """The sample of exactly one of the two; SettingsError otherwise. A file asks for no Kafka."""
    if (topic is None) == (file is None):
        raise SettingsError("give either --topic TOPIC or --file FILE: that is where the events are looked at")
    if file is not None:
        return of_file(file, records)
    log = patient_log(Settings.load())
    try:
        return of_topic(log, str(topic), records)
    finally:
        log.close()


class AskedSchemas:
    """Schemas as the registry has them now, each asked once: for samples, which decide nothing and keep nothing."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._held: dict[int, Schema | None] = {}

    def schema(self, id: int) -> Schema | None:
        """The schema of an id, None where the registry has none; RegistryAway when it does not answer."""
        if id not in self._held:
            self._held[id] = self._registry.schema(id)
        return self._held[id]

    def knows(self, id: int) -> bool:
        """True when the id was asked before."""
        return id in self._held


def asked_schemas(settings: Settings) -> AskedSchemas:
    """The schemas of the registry that is set; SettingsError when none is."""
    registry = settings.registry()
    if registry is None:
        raise SettingsError(
            "the records name their schema by a registry's id, and no schema_registry is set: WATERSHED_SCHEMA_REGISTRY=http://localhost:8081"
        )
    return AskedSchemas(registry)


__all__ = ["AskedSchemas", "asked_schemas", "sample_of"]
