"""The sample that a command looks at: a topic's or a file's, as its options say."""

from pathlib import Path

from console.commands.waiting import patient_log
from ingestion.sample import Sample, of_file, of_topic
from pipeline.base.errors import SettingsError
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


__all__ = ["sample_of"]
