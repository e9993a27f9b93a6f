"""Damage to a log since it was set up, and what of it the master dataset and the log together still have.

    whole  <=>  same topic, same partitions, and for every partition the log starts at or below the archived end and still holds
                the last record archived, and the last record committed

Everything here only looks. `offsets` are counted, not records: a log has gaps.
"""

from dataclasses import dataclass

from pipeline.handover import Cut, Witness
from pipeline.handover.replacement import GenerationStore, Plan
from pipeline.lake import layout
from pipeline.lake.lake import ROW_GROUP
from pipeline.lake.manifest import File, Manifest
from pipeline.log.log import RAW_SCHEMA, holds_another, record_hash
from tasks.night.archive import LOST, RAW
from tasks.night.night import Night


@dataclass(frozen=True)
class Gap:
    """One partition: what lies in [start, end) is neither archived nor in the log as it was; the log goes on at `end`.

    `served` is how many records from `start` on the speed layer had counted. `regrown`: the log holds other records there now.
    """

    partition: int
    start: int
    end: int
    served: int
    regrown: bool

    def __str__(self) -> str:
        what = "was cut back and holds other records now" if self.regrown else "is gone, by retention"
        return (
            f"partition {self.partition}: the log from offset {self.start:,} on, where the archive ends, {what}; it goes on at"
            f" {self.end:,}: {self.end - self.start:,} offsets are lost, and {self.served:,} records that were served from there are read"
            f" again as far as the log has them"
        )


@dataclass(frozen=True)
class Damage:
    """Difference of a topic from the one a generation was made for. `archived` counts the records in the master dataset."""

    recreated: bool
    partitions_added: int
    gaps: tuple[Gap, ...]
    archived: int
    served: int
    keep: int  # the last cut whose ranges are all archived
    ends: tuple[int, ...]  # its offsets

    @property
    def loses(self) -> bool:
        """True when going on needs a decision: something cannot be part of the answer any more."""
        return self.recreated or bool(self.gaps)


def survey(store: GenerationStore, night: Night, plan: Plan) -> Damage:
    """Compare a topic as found with the generation in force."""
    active = night.generation
    ledger = night.store.ledger(active)
    keep, archived = _archived(night, ledger)
    served = sum(store.counted_from(active, p, offset) for p, offset in enumerate(keep.offsets))
    recreated = plan.topic_id != active.topic_id or len(plan.starts) < active.partitions
    gaps = () if recreated else tuple(_gaps(store, night, plan, keep))
    added = 0 if recreated else len(plan.starts) - active.partitions
    return Damage(recreated, added, gaps, archived, served, keep.number, keep.offsets)


def _archived(night: Night, ledger: list[Cut]) -> tuple[Cut, int]:
    """The last cut up to which every range of every partition is in the master dataset, and the records there."""
    last, records = ledger[0], 0
    for cut in ledger[1:]:
        targets = night.targets(cut.number)
        found = [targets.master(p).manifest(night.lake) for p in range(night.generation.partitions)]
        if None in found:
            break
        last, records = cut, records + sum(f.rows for m in found if m for f in m.files)
    return last, records


def _gaps(store: GenerationStore, night: Night, plan: Plan, keep: Cut) -> list[Gap]:
    topic, active = night.source.topic, night.generation
    rows = store.progress(active)
    # After the positions: workers go on, and none commits beyond an end that is read later
    ends = night.log.end_offsets(topic)
    found = []
    for p, (position, witness) in enumerate(rows):
        start = keep.offsets[p]
        other = ends[p] < max(position, start) or _other_record(night, p, witness)
        regrown = other or _other_archive(night, p, keep)
        end = max(start, plan.starts[p])
        if regrown or end > start:
            found.append(Gap(p, start, end, store.counted_from(active, p, start), regrown))
    return found


def _other_record(night: Night, partition: int, witness: Witness | None) -> bool:
    return witness is not None and holds_another(night.log, night.source.topic, partition, witness.offset, witness.hash)


def _other_archive(night: Night, partition: int, keep: Cut) -> bool:
    """True when the log holds another record where the master dataset ends; what lies below an accepted loss is not compared."""
    for targets in reversed(night.targets_between(0, keep.number)):
        manifest = targets.master(partition).manifest(night.lake)
        if manifest is None or LOST in manifest.facts:
            return False
        if manifest.files and manifest.files[-1].rows:
            row = night.lake.last_row(manifest.files[-1].path, ["offset", "timestamp_ms", "key", "value"])
            found = night.log.witness(night.source.topic, partition, int(row["offset"]) + 1)
            return found is not None and found != record_hash(
                row["offset"], row["timestamp_ms"], row["key"], row["value"]
            )
    return False


def set_aside(night: Night) -> int:
    """Move the archive of a topic that was made anew out of the new one's way; how many records it holds. Safe to run again."""
    lake, generation, records = night.lake, night.generation, 0
    for cut in night.store.ledger(generation)[1:]:
        for r in (night.targets(cut.number).master(p) for p in range(generation.partitions)):
            new = layout.master_set_aside(generation.topic, generation.topic_id, r.partition, r.start, r.end)
            manifest = r.manifest(lake)
            if manifest is not None and r.end > r.start:
                batches = (batch for file in manifest.files for batch in lake.read_batches(file, ROW_GROUP))
                files = (File(f"{new}.parquet", lake.write_table(f"{new}.parquet", RAW_SCHEMA, batches, RAW)),)
                lake.commit(layout.manifest(new), Manifest("master", manifest.inputs, files, manifest.facts))
                for file in manifest.files:
                    lake.delete(file.path)
                lake.delete_manifest(r.path)
            moved = lake.manifest(layout.manifest(new))
            records += sum(f.rows for f in moved.files) if moved is not None else 0
    return records


__all__ = ["Damage", "Gap", "set_aside", "survey"]
