"""Staging: the rows of a batch go into Postgres, invisible until publish moves the pointer.

staged(n) = every group touched since the newest published batch below n    (all groups, if the fold went on from another base)
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from pipeline.base.errors import LakeError
from pipeline.definition.view import View
from pipeline.handover import Counts, Staged
from pipeline.lake.manifest import Manifest
from pipeline.lake.targets import CleanRange
from tasks.night.fold import WINDOW_DATE, read_states
from tasks.night.night import Night, Report, counts_of, view_counts_of


def stage(night: Night, number: int, report: Report) -> None:
    """Stage batch `number` from its views' manifests."""
    base = night.base(number).number
    targets = night.targets(number)
    manifests = {v.name: targets.view(v.name).require(night.lake, night.is_kept) for v in night.views}
    digest = night.staging_digest(number)
    if digest is None:  # a later night was published, and purged them while we looked
        raise LakeError(
            f"the views at cut {number} of {night.source.topic} are not there any more; run the night again: it may be covered"
        )
    counts = [_total(night, targets.clean(p)) for p in range(night.generation.partitions)]
    staged = Staged(
        counts=counts,
        view_counts={name: view_counts_of(m.facts["view_counts"]) for name, m in manifests.items()},
        rows={v.name: _Rows(night, v, manifests[v.name], base, report) for v in night.views},
        staged_from=digest,
    )
    night.crash.reach("night.before_stage")
    night.store.stage(night.generation, number, staged)
    night.crash.reach("night.after_stage")


def _total(night: Night, clean: CleanRange) -> Counts:
    """The counts of the log below the cut; a batch without identities must not be staged, since no worker could start from it."""
    clean.identities.require(night.lake)
    return counts_of(clean.require(night.lake).facts["total"])


@dataclass(frozen=True)
class _Rows:
    """A view's touched rows, file by file, from the lake each time they are asked for: staging may have to be done again."""

    night: Night
    view: View
    manifest: Manifest
    base: int
    report: Report

    def __iter__(self) -> Iterator[pa.Table]:
        facts, every = self.manifest.facts, self.manifest.files
        wanted = set(facts["touched"]) if facts["base"] == self.base else {f.partition[WINDOW_DATE] for f in every}
        files = [f for f in every if f.partition[WINDOW_DATE] in wanted]
        for done, file in enumerate(files):
            self.report(f"staging {self.view.name}, {file.partition[WINDOW_DATE]}", done / len(files))
            yield read_states(self.night.lake, self.view, file)
