"""Summary at the demo's end, and the exit code that says the same.

exit code 0  <=>  every audit found 0 differences, and what was sent is what was counted
"""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.text import Text

from pipeline.handover import Counts
from sandbox.services import RejectedFile
from sandbox.weather import Kind
from serving.audit.audit import Report


@dataclass(frozen=True)
class AuditFound:
    """An audit: `how` it recomputed, how many differences, and its reports when it ran in this process."""

    how: str
    differences: int
    reports: list[Report] | None


@dataclass(frozen=True)
class Findings:
    """Findings to tell at the end. `sent` is None when the topic held records before: then counts cannot be compared."""

    folder: Path
    lake: str
    audits: list[AuditFound]
    sent: Mapping[Kind, int] | None
    counted: Counts
    rejected: list[RejectedFile]


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
    agree = _print_counts(console, found)
    print_(f"\nchart     {near(found.folder / 'weather.png')}")
    print_(f"lake      {near(found.lake)}  Parquet, for any engine; manifests name the files")
    archived = sum(file.records for file in found.rejected)
    print_(
        f"rejected  {archived:,} of {found.counted.rejected:,} are in the lake, the next night takes in the rest; for example"
    )
    for file in found.rejected[:1]:
        print_(f"          {near(file.path)}")
    samples = {reason: sample for file in found.rejected for reason, sample in file.samples.items()}
    for reason, sample in list(samples.items())[:3]:
        print_(Text(f"            {sample}\n            → {reason}", "dim"))
    print_(f"logs      {near(found.folder / 'logs')}")
    print_("next      watershed up   leaves it all running, with Luigi's UI")
    return 0 if agree and not any(a.differences for a in found.audits) else 1


def near(path: Path | str) -> str:
    """A path as one would type it here."""
    return os.path.relpath(path) if Path(path).is_relative_to(Path.cwd()) else str(path)


def _print_counts(console: Console, found: Findings) -> bool:
    """Print what was sent beside what serving.accounting counted; True when they agree."""
    counted, sent = found.counted, found.sent
    text = ", ".join(f"{name} {number:,}" for name, number in asdict(counted).items())
    if sent is None:
        console.print(f"Counted, with what the topic held before: {text}.", highlight=False, soft_wrap=True)
        return True
    once = sum(sent.get(kind, 0) for kind in (Kind.ON_TIME, Kind.OUT_OF_ORDER, Kind.LATE))
    rest = (sent.get(kind, 0) for kind in (Kind.DUPLICATE, Kind.BROKEN, Kind.TOMBSTONE))
    wanted = Counts(once, *rest)
    if wanted != counted:
        console.print(f"[bold red]Sent were {wanted}, and counted {counted}", highlight=False, soft_wrap=True)
        return False
    mixed = f"{sent.get(Kind.LATE, 0):,} late by days and {sent.get(Kind.OUT_OF_ORDER, 0):,} out of order among them"
    console.print(
        f"Of {counted.records:,} events sent, each is accounted for: {text}; {mixed}.", highlight=False, soft_wrap=True
    )
    return True
