"""Postgres and Kafka as a command opens them that may be called while they start: waited for, `start_patience_s` at most, which is said.

Each transaction and each question has the whole patience; what is refused (a password, an ACL, a definition) is no reason to wait.
"""

import typer

from pipeline.handover.patience import Patient
from pipeline.log.kafka.log import KafkaLog
from pipeline.log.log import Unreachable
from pipeline.settings import Settings
from serving.postgres.connection import Engine, engine
from serving.stores.schemas import SchemaLedger


def patient_database(settings: Settings, command: str) -> Engine:
    """An engine that serving.stores.transactions waits with."""
    patience_s = settings.start_patience_s
    return engine(
        settings.postgres_url(), application_name=f"watershed {command}", outage_patience_s=patience_s, say=_say
    )


def patient_log(settings: Settings) -> KafkaLog:
    """A log whose questions wait."""
    return KafkaLog(settings.kafka_connection(), caller=Patient((Unreachable,), settings.start_patience_s, _say))


def patient_schemas(settings: Settings, database: Engine) -> SchemaLedger:
    """The schemas of sources, by a ledger that waits for the registry."""
    return SchemaLedger(database, settings.registry(), settings.start_patience_s, _say)


def _say(why: str) -> None:
    typer.echo(why, err=True)


__all__ = ["patient_database", "patient_log", "patient_schemas"]
