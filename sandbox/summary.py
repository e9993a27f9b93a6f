"""Summary at the demo's end, and the exit code that says the same.

exit code 0  <=>  every audit found 0 differences, and what was sent is what was counted
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from pipeline.handover import Counts, Cut
from sandbox.events import Kind
from sandbox.scene import Renamed
from sandbox.services import RejectedFile
from serving.audit.audit import Report

PICTURE = "demo.png"


@dataclass(frozen=True)
class AuditFound:
    """An audit: `how` it recomputed, how many differences, and its reports when it ran in this process."""

    how: str
    differences: int
    reports: list[Report] | None


@dataclass(frozen=True)
class OfTopic:
    """Outcome of a topic's events. `sent` is None when it held records before: then counts cannot be compared."""

    topic: str
    sent: Mapping[Kind, int] | None
    counted: Counts
    rejected: list[RejectedFile]


@dataclass(frozen=True)
class Changed:
    """A table's change: from `cut` on its `version` is in force; `flights` are those served under the old and the new name."""

    renamed: Renamed
    table: str
    version: int
    cut: Cut
    flights: tuple[int, int]

    @classmethod
    def found(cls, renamed: Renamed, table: str, cut: Cut, delays: Sequence[Mapping[str, Any]]) -> "Changed":
        """By the cut that adopted it and the rows of serving.delays."""
        before, after = (
            sum(r["flights"] for r in delays if r["carrier.name"] == name) for name in (renamed.before, renamed.after)
        )
        return cls(renamed, table, dict(cut.versions)[table], cut, (before, after))


@dataclass(frozen=True)
class Findings:
    """Findings to tell at the end."""

    folder: Path
    lake: str
    audits: list[AuditFound]
    topics: list[OfTopic]
    changed: Changed


def summary(console: Console, found: Findings) -> int:
    """Print what came of it; the exit code: 0 when every audit found 0 differences and what was sent is what was counted."""
    print_ = partial(console.print, highlight=False, soft_wrap=True)
    print_()
    for audit in found.audits:
        print_(f"{audit.differences:,} differences", style="bold red" if audit.differences else "bold green", end="")
        print_(f"  audit {audit.how}")
        for report in audit.reports or ():
            for line in report.counts:
                print_(f"  {line}", style="red", markup=False)
            for example in report.examples[:5]:
                print_(f"  {report.view} {example['group']}", style="red", markup=False)
                print_(f"    served     {example['served']}\n    recomputed {example['recomputed']}", markup=False)
    agreed = [_print_counts(console, topic) for topic in found.topics]
    _print_change(console, found.changed)
    print_(f"\nchart     {near(found.folder / PICTURE)}")
    print_(f"lake      {near(found.lake)}  Parquet, for any engine; manifests name the files")
    _print_rejected(console, found.topics)
    print_(f"logs      {near(found.folder / 'logs')}")
    print_("next      watershed up   leaves it all running, with Luigi's UI")
    return 0 if all(agreed) and not any(a.differences for a in found.audits) else 1


def near(path: Path | str) -> str:
    """A path as one would type it here."""
    return os.path.relpath(path) if Path(path).is_relative_to(Path.cwd()) else str(path)


def _print_counts(console: Console, of: OfTopic) -> bool:
    """Print what was sent beside what serving.accounting counted; True when they agree."""
    counted, sent = of.counted, of.sent
    text = ", ".join(f"{name} {number:,}" for name, number in asdict(counted).items())
    if sent is None:
        told = f"{of.topic}: counted, with what the topic held before: {text}."
        console.print(told, highlight=False, soft_wrap=True)
        return True
    once = sum(sent.get(kind, 0) for kind in (Kind.ON_TIME, Kind.OUT_OF_ORDER, Kind.LATE))
    rest = (sent.get(kind, 0) for kind in (Kind.DUPLICATE, Kind.BROKEN, Kind.TOMBSTONE))
    wanted = Counts(once, *rest)
    if wanted != counted:
        told = f"[bold red]{of.topic}: sent were {wanted}, and counted {counted}"
        console.print(told, highlight=False, soft_wrap=True)
        return False
    mixed = f"{sent.get(Kind.LATE, 0):,} late by days and {sent.get(Kind.OUT_OF_ORDER, 0):,} out of order among them"
    told = f"{of.topic}: of {counted.records:,} events sent, each is accounted for: {text}; {mixed}."
    console.print(told, highlight=False, soft_wrap=True)
    return True


def _print_change(console: Console, changed: Changed) -> None:
    """Print which flights have which of the two names."""
    renamed, offsets = changed.renamed, ", ".join(f"{p}:{offset:,}" for p, offset in enumerate(changed.cut.offsets))
    console.print(
        f"{changed.table}: version {changed.version} is in force from cut {changed.cut.number} on (offsets {offsets}), in both layers:"
        f" {changed.flights[0]:,} flights of {renamed.carrier} are served as '{renamed.before}', and {changed.flights[1]:,},"
        f" whatever their dates, as '{renamed.after}'.",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _print_rejected(console: Console, topics: Sequence[OfTopic]) -> None:
    print_ = partial(console.print, highlight=False, soft_wrap=True)
    files = [file for of in topics for file in of.rejected]
    archived, all_of_them = sum(file.records for file in files), sum(of.counted.rejected for of in topics)
    print_(f"rejected  {archived:,} of {all_of_them:,} are in the lake, the next night takes in the rest; for example")
    for file in files[:1]:
        print_(f"          {near(file.path)}")
    samples = {reason: sample for file in files for reason, sample in file.samples.items()}
    for reason, sample in list(samples.items())[:3]:
        print_(Text(f"            {sample}\n            → {reason}", "dim"))
