"""Partitions that wait for a schema which their next records name and nobody here knows yet; the others go on.

    a block is folded  =>  every schema id in it is decided        a partition that waits is not read; what was read of it is read again

A registry that is away is asked again every RETRY_S, for as long as it takes; leases are renewed meanwhile, as always.
"""

from concurrent.futures import Future

from pipeline.decode.decode import unknown_ids
from pipeline.decode.schemas import Schemas
from pipeline.log.log import Block
from speed_layer.collaborators import Collaborators
from speed_layer.fetch_ahead import At
from speed_layer.partition import PartitionWork

RETRY_S = 1.0


class AwaitedSchemas:
    """Questions that were asked for partitions, one each. `reason` says why the oldest has no answer; "" when none waits in vain."""

    def __init__(self, collaborators: Collaborators) -> None:
        self._executor, self._clock, self._passing = collaborators.asking, collaborators.clock, collaborators.transient
        self._asked: dict[At, tuple[Future[None], Schemas, list[int]]] = {}
        self._again_s: dict[At, float] = {}
        self.reason = ""

    def holds(self, at: At) -> bool:
        """True while the partition waits."""
        return at in self._asked

    def awaits(self, work: PartitionWork, block: Block) -> bool:
        """True when the block must not be folded yet: its partition waits from now on, or does already."""
        if work.at in self._asked:
            return True
        ids = unknown_ids(work.source.source, block.batch, work.schemas)
        if ids:
            self._ask(work.at, work.schemas, ids)
        return self.holds(work.at) and not self._settled(work.at)

    def answered(self) -> bool:
        """True when a partition waits no more; those whose question failed are asked for again. Raises what does not pass by itself."""
        before = len(self._asked)
        for at in list(self._asked):
            self._settled(at)
        return len(self._asked) < before

    def _ask(self, at: At, schemas: Schemas, ids: list[int]) -> None:
        def call() -> None:
            for id in ids:
                schemas.schema(id)

        self._asked[at] = self._executor.submit(call), schemas, ids

    def _settled(self, at: At) -> bool:
        """True when its question is answered: then it waits no more."""
        future, schemas, ids = self._asked[at]
        if not future.done():
            return False
        error = future.exception()
        if error is None:
            del self._asked[at]
            self._again_s.pop(at, None)
            self.reason = self.reason if self._again_s else ""
            return True
        if not isinstance(error, self._passing):
            raise error
        self.reason = str(error)
        now_s = self._clock.monotonic()
        if now_s >= self._again_s.setdefault(at, now_s + RETRY_S):
            self._again_s[at] = now_s + RETRY_S
            self._ask(at, schemas, ids)
        return False
