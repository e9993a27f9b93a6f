"""The servers of the demo: those of the settings, which are only used, and embedded ones in the place of others, ended by the stack."""

import shutil
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

from pipeline.base.errors import SettingsError
from pipeline.log.kafka.connection import KafkaConnection
from sandbox.embedded_broker import EmbeddedBroker
from sandbox.postgres import EmbeddedPostgres
from sandbox.services import Given, Place, lake_of_its_own, whole


def fresh_folder(out: Path | None) -> Path:
    """The folder for the demo's output, new or empty; SettingsError when it cannot be that."""
    folder = (out or Path("out") / f"demo-{datetime.now().astimezone():%Y%m%d-%H%M%S}").expanduser().absolute()
    try:
        if folder.exists() and any(folder.iterdir()):
            raise SettingsError(f"the output folder {folder} is not empty: name a new one with --out")
        (folder / "logs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"the output folder {folder} cannot be made ({error.strerror}): name another one with --out"
        ) from None
    return folder


def servers(folder: Path, views: str, more: Mapping[str, str], stack: ExitStack) -> tuple[Place, str]:
    """(where everything is, and that in words); what is not given is started."""
    given, logs = Given(), folder / "logs"
    given.refuse_security_for_nobody()
    own = {"Postgres": given.postgres is not None, "Kafka": given.kafka is not None}
    # Services that live on know cuts whose files lie in the lake of the settings; fresh ones get a fresh lake.
    lake = whole(given.lake) if all(own.values()) else lake_of_its_own(given, folder)
    postgres = given.postgres_url() if own["Postgres"] else _embedded_postgres(logs, stack)
    broker = None if own["Kafka"] else stack.enter_context(EmbeddedBroker(logs))
    kafka = given.kafka_connection() if broker is None else KafkaConnection(broker.bootstrap)
    words = ", ".join(f"{'your' if mine else 'embedded'} {name}" for name, mine in own.items())
    return Place(kafka, postgres, lake, views, more), words


def _embedded_postgres(logs: Path, stack: ExitStack) -> str:
    """In a temporary folder: a user's path may hold spaces, and as root the rights of the folders above it would change."""
    data = Path(tempfile.mkdtemp(prefix="watershed-demo-"))
    stack.callback(shutil.rmtree, data, ignore_errors=True)
    server = EmbeddedPostgres(data / "postgres")
    stack.callback(lambda: server.log.exists() and shutil.copyfile(server.log, logs / "postgres.log"))
    return stack.enter_context(server).url
