"""The visible batch and a refold of the log above it: what the layers would serve at any vector, made without the speed layer.

    refolded(v) = batch(visible) ⊕ f(log[cut, v)),  knowing the identities at the cut      cut <= v <= the log's end

The states are Postgres' own, the identities the lake's; so what is audited is what a worker would start from.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from pipeline.accept.identity_files import identities_at
from pipeline.base.errors import Refused
from pipeline.decode.schemas import NO_SCHEMAS, Schemas
from pipeline.definition.source import Source
from pipeline.definition.view import View
from pipeline.fold.in_force import InForce
from pipeline.fold.recompute import BUCKETS, Recompute
from pipeline.fold.states import state_schema
from pipeline.lake.lake import Lake
from pipeline.log.log import Log
from serving.answers import BatchPart, Freshness, Snapshot


@dataclass(frozen=True)
class Refolded(Snapshot):
    """A Snapshot whose rows come from a Recompute, bucket by bucket; in no order of groups."""

    states: Recompute

    def rows(self, view: str) -> Iterator[pa.RecordBatch]:
        """The rows of the view: value_schema(view)."""
        for bucket in range(BUCKETS):
            yield from self.states.values(self.views[view], bucket).to_batches()


def refolded(
    log: Log,
    lake: Lake,
    source: Source,
    views: Sequence[View],
    part: BatchPart,
    at: Mapping[int, int],
    folder: Path,
    schemas: Schemas = NO_SCHEMAS,
    in_force: InForce | None = None,
) -> Refolded:
    """Merge the batch with a refold of [cut, at) read from the log; Refused for a vector that is outside."""
    topic, below = source.topic, part.answer
    generation, fresh = below.generations[topic], below.freshness[topic]
    _check(topic, at, [f.cut for f in fresh], log.end_offsets(topic))
    states = Recompute(source, views, folder / "refold", schemas=schemas, in_force=in_force)
    for view in views:
        for batch in part.states(view.name):
            states.add(view, pa.Table.from_batches([batch], state_schema(view)))
    for partition, cut, _ in fresh:
        known = identities_at(lake, source, generation, part.number[topic], partition, cut)
        blocks = log.read(topic, partition, cut, at[partition])
        for _ in states.feed(partition, blocks, known):
            pass
    counts = [c + states.counts[p] for p, c in enumerate(below.accounting[topic])]
    view_counts = {
        v.name: [c + states.view_counts[v.name, p] for p, c in enumerate(below.view_accounting[v.name])] for v in views
    }
    vector = [Freshness(f.partition, f.cut, at[f.partition]) for f in fresh]
    return Refolded(below.generations, {topic: vector}, {topic: counts}, view_counts, {}, below.views, states)


def _check(topic: str, at: Mapping[int, int], cuts: Sequence[int], ends: Sequence[int]) -> None:
    allowed = ",".join(f"{p}:{cut}..{end}" for p, (cut, end) in enumerate(zip(cuts, ends, strict=True)))
    if set(at) != set(range(len(cuts))):
        raise Refused(
            f"topic {topic} has partitions 0 to {len(cuts) - 1}: give an offset for each; allowed are {allowed}"
        )
    for partition, (cut, end) in enumerate(zip(cuts, ends, strict=True)):
        if not cut <= at[partition] <= end:
            where = "below the visible cut" if at[partition] < cut else "beyond the log's end"
            raise Refused(f"topic {topic}, partition {partition}: {at[partition]} is {where}; allowed are {allowed}")
