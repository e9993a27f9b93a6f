"""The ledger of schemas: an id is asked of the registry once, and what it said then is what every layer goes by.

    schema(id) = the row of ops.schemas        it is inserted, committed and read back before anybody decodes by it

The registry is asked only for what the ledger lacks, so that a night, a rebuild or an audit of what was read before needs none.
"""

from collections.abc import Callable

from sqlalchemy.engine import Connection, Engine

from pipeline.base.errors import SettingsError
from pipeline.decode.registry import Registry, RegistryAway
from pipeline.decode.schemas import NO_SCHEMAS, Schema, Schemas
from pipeline.definition.fingerprints import source_fingerprint
from pipeline.definition.source import Source
from pipeline.handover.patience import wait_out
from serving.ops import schemas as ops
from serving.stores.transactions import Transactions


class SchemaLedger:
    """The schemas of sources, by ops.schemas of one database; called with a source it gives its Schemas (decode.schemas.SchemasOf).

    A registry that is away is waited for `patience_s`, and `say` is told; then RegistryAway is raised. Without a registry, an id that
    the ledger lacks is a SettingsError. Threads may share it.
    """

    def __init__(
        self,
        engine: Engine,
        registry: Registry | None,
        patience_s: float = 0.0,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.transactions = Transactions(engine)
        self.registry, self.patience_s, self.say = registry, patience_s, say
        self._made: dict[tuple[str, str], _OfSource] = {}

    def __call__(self, source: Source) -> Schemas:
        if not source.format.registered:
            return NO_SCHEMAS
        key = source.topic, source_fingerprint(source)
        return self._made.setdefault(key, _OfSource(self, *key))


class _OfSource:
    """One source's."""

    def __init__(self, ledger: SchemaLedger, topic: str, fingerprint: str) -> None:
        self._ledger, self._topic, self._fingerprint = ledger, topic, fingerprint
        self._held: dict[int, Schema | None] = {}

    def knows(self, id: int) -> bool:
        return id in self._held

    def schema(self, id: int) -> Schema | None:
        if id not in self._held:
            decided, found = self._decided(id)
            if not decided:
                asked = self._ask(id)
                self._write(lambda connection: ops.decide(connection, self._topic, self._fingerprint, id, asked))
                decided, found = self._decided(id)
                assert decided, f"schema id {id} was decided and is not in the ledger"
            self._held[id] = found
        return self._held[id]

    def _decided(self, id: int) -> tuple[bool, Schema | None]:
        found = self._find(id)
        if not found[0]:
            self._write(lambda connection: ops.inherit(connection, self._topic, self._fingerprint, id))
            found = self._find(id)
        return found

    def _find(self, id: int) -> tuple[bool, Schema | None]:
        return self._ledger.transactions.read(lambda c: ops.find(c, self._topic, self._fingerprint, id))

    def _write(self, body: Callable[[Connection], None]) -> None:
        self._ledger.transactions.once(body, again=True)

    def _ask(self, id: int) -> Schema | None:
        registry = self._ledger.registry
        if registry is None:
            raise SettingsError(
                f"topic {self._topic}: a record names schema id {id}, which the ledger does not have, and no schema_registry"
                " (WATERSHED_SCHEMA_REGISTRY) is set; set its URL, as http://localhost:8081"
            )
        ledger = self._ledger
        return wait_out(lambda: registry.schema(id), (RegistryAway,), patience_s=ledger.patience_s, say=ledger.say)
