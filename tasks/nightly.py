"""Luigi's view of a night: thin tasks over tasks.night.night, one per target.

    Nightly(date) -> ChooseCut(date) -> Publish <- Stage <- FoldView <- Clean <- Archive        per source

complete() asks the manifest or the row, never a flag of Luigi's. `date` names the night and nothing else: it selects no events.
"""

import datetime
import json
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import luigi

from pipeline.base.errors import DefinitionError, WatershedError
from pipeline.base.memory import reuse_memory
from pipeline.handover import Cut
from pipeline.lake import layout
from pipeline.lake.targets import ViewAtCut
from tasks.context import context
from tasks.current import try_write_current
from tasks.night.night import Night, Report
from tasks.night.summary import summary

LOG = logging.getLogger("luigi-interface")


def _say(tell: Any, what: Any) -> None:
    """Luigi puts these callbacks in place only while a worker runs the task."""
    if tell is not None:
        tell(what)


class Step(luigi.Task):
    """A task that reports to Luigi's UI: message, progress and a link to what it made."""

    def report(self, message: str, fraction: float) -> None:
        """Show where the task is."""
        _say(self.set_status_message, message)
        _say(self.set_progress_percentage, round(100 * fraction))

    def made(self, path: str) -> None:
        """Link to the manifest at `path` where somebody serves it: a browser opens no file:// from a page of luigid's."""
        if self.set_tracking_url is not None:
            base = context().settings.lake_url
            if base and context().lake.exists(path):
                self.set_tracking_url(f"{base.rstrip('/')}/{quote(path, safe='/=')}")
        _say(self.set_progress_percentage, 100)


class OfCut(Step):
    """A step of one source's cut."""

    topic = luigi.Parameter()
    generation = luigi.IntParameter()
    number = luigi.IntParameter(description="the cut's number, as `watershed status` lists them")

    @property
    def night(self) -> Night:
        """The source's night, opened in this process."""
        return context().night(self.topic, self.generation)


class OfPartition(OfCut):
    """A step of one partition, done side by side with the same step of others."""

    partition = luigi.IntParameter()

    def done(self, partition: int) -> bool:
        """True when the step is done for a partition."""
        raise NotImplementedError

    def is_ready(self, partition: int) -> bool:
        """True when the requirements of this partition's task are complete."""
        return True

    def complete(self) -> bool:
        return self.done(self.partition)

    def with_others(self, step: Callable[[Night, int, int, Report], object]) -> None:
        """Do the step for this partition, and for others for which it may be done by now; nothing when it was done beside another's."""
        if self.done(self.partition):
            return
        reuse_memory()

        def work(partition: int, go_on: Callable[[], None]) -> None:
            def report(message: str, fraction: float) -> None:
                go_on()
                if partition == self.partition:
                    self.report(message, fraction)

            step(self.night, self.number, partition, report)

        at_once = context().at_once
        others = (
            p
            for p in range(self.night.generation.partitions)
            if p != self.partition and not self.done(p) and self.is_ready(p)
        )
        self.night.executor.run_partitions(self.partition, others, at_once, work)


class Archive(OfPartition):
    """Copy one partition's range into the master dataset, and clean it meanwhile where that may be."""

    def done(self, partition: int) -> bool:
        return self.night.targets(self.number).master(partition).manifest(self.night.lake) is not None

    def run(self) -> None:
        from tasks.night.archive import archive

        self.with_others(archive)
        self.made(self.night.targets(self.number).master(self.partition).path)


class Clean(OfPartition):
    """Decode, validate and deduplicate one partition's range, when that was not done while it was archived."""

    def requires(self) -> Iterator[luigi.Task]:
        yield Archive(self.topic, self.generation, self.number, self.partition)
        before = self.night.targets(self.number).before
        if before:
            yield Clean(self.topic, self.generation, before, self.partition)

    def done(self, partition: int) -> bool:
        return self.night.targets(self.number).clean(partition).with_identities(self.night.lake) is not None

    def is_ready(self, partition: int) -> bool:
        from tasks.night.clean import may_clean

        archived = self.night.targets(self.number).master(partition).manifest(self.night.lake) is not None
        return archived and may_clean(self.night, self.number, partition)

    def run(self) -> None:
        from tasks.night.clean import clean

        self.with_others(clean)
        self.made(self.night.targets(self.number).clean(self.partition).path)


class FoldView(OfCut):
    """Make one view at the cut."""

    view = luigi.Parameter()
    full = luigi.BoolParameter(significant=False, description="refold everything; the rows are the same")

    def requires(self) -> Iterator[luigi.Task]:
        for partition in range(self.night.generation.partitions):
            yield Clean(self.topic, self.generation, self.number, partition)

    def complete(self) -> bool:
        return self._target().manifest(self.night.lake, self.night.is_kept) is not None

    def run(self) -> None:
        from tasks.night.fold import fold_view

        reuse_memory()
        fold_view(self.night, self._view(), self.number, self.full, self.report)
        self.made(self._target().path)

    def _target(self) -> ViewAtCut:
        return self.night.targets(self.number).view(self._view().name)

    def _view(self) -> Any:
        for view in self.night.views:
            if view.name == self.view:
                return view
        raise DefinitionError(
            f"there is no view {self.view!r} on {self.topic}; there are {[v.name for v in self.night.views]}"
        )


class Stage(OfCut):
    """Put the batch's rows into Postgres, invisible."""

    full = luigi.BoolParameter(significant=False)

    def requires(self) -> Iterator[luigi.Task]:
        for view in self.night.views:
            yield FoldView(self.topic, self.generation, self.number, view.name, self.full)

    def complete(self) -> bool:
        return self.night.staged(self.number)

    def run(self) -> None:
        from tasks.night.stage import stage

        stage(self.night, self.number, self.report)
        self.made(self.night.targets(self.number).view(self.night.views[0].name).path)


class Publish(OfCut):
    """Make the batch the visible one, for all views of the source at once."""

    full = luigi.BoolParameter(significant=False)

    def requires(self) -> Iterator[luigi.Task]:
        if not self.night.covered(self.number):
            yield Stage(self.topic, self.generation, self.number, self.full)

    def complete(self) -> bool:
        return self.night.published(self.number)

    def run(self) -> None:
        _say(self.set_status_message, f"{self.topic}, cut {self.number}: {self.night.publish(self.number)}")
        try_write_current(self.night)
        self.made(layout.current_view(self.night.views[0].name))


class ChooseCut(Step):
    """Choose the cut of every source for a night, in Postgres, and copy it to cuts/<date>.json."""

    date = luigi.DateParameter()

    def complete(self) -> bool:
        lake, wanted = context().lake, self._chosen()
        path = layout.cut_file(str(self.date))
        return (
            None not in wanted.values()
            and lake.exists(path)
            and json.loads(lake.read_bytes(path)) == self._document(wanted)
        )

    def run(self) -> None:
        chosen = {topic: context().night(topic).choose(self.date) for topic in context().topics}
        path = layout.cut_file(str(self.date))
        context().crash.reach("cut.before_file")
        context().lake.write_bytes(path, json.dumps(self._document(chosen), indent=1, sort_keys=True).encode())
        _say(self.set_status_message, "; ".join(f"{t}: cut {c.number} at {list(c.offsets)}" for t, c in chosen.items()))
        self.made(path)

    def _chosen(self) -> dict[str, Cut | None]:
        return {
            topic: (night := context().night(topic)).store.cut_of(night.generation, self.date)
            for topic in context().topics
        }

    def _document(self, cuts: dict[str, Any]) -> dict[str, Any]:
        return {
            "date": str(self.date),
            "cuts": {
                t: {"generation": c.generation, "number": c.number, "offsets": list(c.offsets)}
                | ({"versions": dict(c.versions)} if c.versions else {})
                for t, c in cuts.items()
            },
        }


class Nightly(Step):
    """One night over every source: choose the cut, archive, clean, fold, stage, publish. Safe to run again, and to kill."""

    date = luigi.DateParameter(description="the name of the night; it selects no events")
    full = luigi.BoolParameter(significant=False, description="refold every view from the clean data set")

    def complete(self) -> bool:
        return self.date in self._published([self.date])

    @classmethod
    def bulk_complete(cls, parameter_tuples: Any) -> list[Any]:
        """For Range tools, which never see directory targets: which of the dates are published."""
        dates = list(parameter_tuples)
        done = cls._published([d[0] if isinstance(d, tuple) else d for d in dates], over={"withdrawn", "purged"})
        return [d for d in dates if (d[0] if isinstance(d, tuple) else d) in done]

    def run(self) -> Iterator[Any]:
        yield ChooseCut(self.date)
        cuts = [self._cut(topic) for topic in context().topics]
        yield [Publish(c.topic, c.generation, c.number, self.full) for c in cuts]
        for cut in cuts:
            self._purge(cut.topic)
        for cut in cuts:
            LOG.info("%s", summary(context().night(cut.topic), cut, time.monotonic() - context().opened_s))
        self.report(f"published {', '.join(f'{c.topic} at {list(c.offsets)}' for c in cuts)}", 1.0)
        self.made(layout.cut_file(str(self.date)))
        self._load_due()

    def _purge(self, topic: str) -> None:
        """Let go of old batches. The night is published: a purge that fails is reported, and the next one makes up for it."""
        from tasks.night.purge import KEEP, purge

        try:
            done = purge(context(), topic, KEEP)
        except WatershedError as error:
            LOG.warning("%s: published, but not purged; `watershed purge` tries again: %s", topic, error)
        else:
            LOG.info("%s", done)

    def _load_due(self) -> None:
        """Load the tables whose time has come. The night is published: a load that fails is an error of its own."""
        from tasks.loads import load_due

        load_due(context(), f"night {self.date}", LOG.info)

    def _cut(self, topic: str) -> Cut:
        night = context().night(topic)
        return night.choose(self.date)

    @classmethod
    def _published(cls, dates: list[datetime.date], over: set[str] | None = None) -> set[datetime.date]:
        """Dates that need nothing any more; a status in `over` counts as that, and is refused otherwise."""
        done = set(dates)
        for topic in context().topics:
            night = context().night(topic)
            of_date = {c.date: c for c in night.store.ledger(night.generation)}
            done &= {
                d
                for d in dates
                if d in of_date and (of_date[d].status in (over or ()) or night.published(of_date[d].number))
            }
        return done
