"""Rejected rows of a table's loads, or of a feed, taken through once: the plan is shown, asked for, and carried out."""

import sys
from dataclasses import dataclass
from pathlib import Path

import typer

from console.commands.shortened import shorten
from console.commands.waiting import patient_log
from ingestion.feed import feed_named, load_feeds
from ingestion.feed_cursors import newest_commits
from ingestion.origin import Reading
from ingestion.origins.files import Files
from ingestion.rejected.chosen import Taken
from ingestion.rejected.feed_replay import FeedReplay
from ingestion.rejected.rows import RowsWanted
from ingestion.rejected.table_replay import plan_of_table, replay_table, unfinished
from pipeline.base.crash import crash_points
from pipeline.base.errors import SettingsError
from pipeline.definition.table import Full
from pipeline.definition.views_module import table_named
from pipeline.handover import Cut
from pipeline.lake.lake import Lake
from pipeline.log.kafka.feed_producer import KafkaFeedProducer
from pipeline.settings import Settings
from serving.ops.table_versions import LoadedVersion
from tasks.context import context
from tasks.loading import Loads

SHOWN = 10


@dataclass(frozen=True)
class Asking:
    """The way that a plan is agreed to."""

    dry_run: bool
    yes: bool

    def confirm(self, question: str) -> None:
        """Go on when the person says so, or said --yes; SettingsError where nobody can be asked."""
        if self.yes:
            return
        if not sys.stdin.isatty():
            raise SettingsError(f"{question} nobody can be asked here: say --yes, or --dry-run to look")
        typer.confirm(question, abort=True)


def replay_of_table(name: str, wanted: RowsWanted, file: str | None, ask: Asking) -> None:
    """Make the table's next version of the newest one and the rows that are accepted now; adopted and shown as a load's is."""
    parts = context()
    table, loads = table_named(parts.tables, name), Loads(parts)
    loads.store.set_up()
    died = unfinished(loads.store.versions(table.name))
    if died is not None and not ask.dry_run:
        made, cuts = loads.load(table, died.load)
        typer.echo(f"{name}: version {made.version}, of a replay that was ended, is adopted and shown now")
        _told(made, cuts)
    reading = Reading(lambda secret: parts.settings.origin_secret(secret).get_secret_value(), report=_say)
    plan = plan_of_table(loads.loader, table, wanted, _mended(file), reading)
    _tell(name, f"into version {plan.base.version + 1} at the earliest", plan.taken)
    if isinstance(table.load, Full) and file is None and plan.taken.chosen.rows.num_rows:
        typer.echo(f"{name}: `watershed load {name}` reads its origin again, by the rule as it is now")
    count = plan.taken.accepted.num_rows
    if ask.dry_run or not count:
        return
    ask.confirm(f"take {count:,} rows into table {name}?")
    made = replay_table(loads.loader, plan)
    _told(made, loads.finish(table, made))


def _told(made: LoadedVersion, cuts: list[Cut]) -> None:
    counts = made.facts["counts"]
    told = ", ".join(f"{counts[one]:,} {one}" for one in ("added", "changed", "unchanged", "duplicates", "deleted"))
    typer.echo(
        f"{made.table}: version {made.version}: in {counts['read']:,} = {told}, {counts['rejected']:,} rejected again;"
        f" {counts['rows']:,} rows"
    )
    for cut in cuts:
        typer.echo(f"{made.table}: version {made.version} is in force in {cut.topic} from {list(cut.offsets)} on")


def replay_of_feed(name: str, wanted: RowsWanted, file: str | None, ask: Asking) -> None:
    """Send the rows that are accepted now onto the feed's topic, in one transaction that says so."""
    settings = Settings.load()
    feed, log, crash = feed_named(load_feeds(settings.views), name), patient_log(settings), crash_points()
    reading = Reading(lambda secret: settings.origin_secret(secret).get_secret_value(), report=_say)
    replay = FeedReplay(feed, Lake(settings.lake), wanted, _mended(file), reading, crash)
    try:
        newest = newest_commits(log).get(name)
        planned = replay.plan(None if newest is None else newest.cursor)
    finally:
        log.close()
    topic = feed.source.topic
    _tell(name, f"to topic {topic}", planned)
    if ask.dry_run or not planned.accepted.num_rows:
        return
    ask.confirm(f"send {planned.accepted.num_rows:,} rows to topic {topic}?")
    producer = KafkaFeedProducer(settings.kafka_connection(), topic, name, crash=crash, say=_say)
    try:
        done = replay.run(producer)
    finally:
        producer.close()
    again = done.again.num_rows
    count = done.accepted.num_rows
    typer.echo(f"{name}: in {count + again:,} = sent {count:,} to topic {topic} + rejected again {again:,}")


def _mended(file: str | None) -> Files | None:
    return None if file is None else Files(file if "://" in file else str(Path(file).absolute()))


def _tell(name: str, where: str, taken: Taken) -> None:
    rows = taken.chosen.rows
    left = f"{taken.again.num_rows:,} would be rejected again for another reason, {len(taken.left):,} stay as they are"
    typer.echo(f"{name}: {taken.accepted.num_rows:,} of {rows.num_rows:,} rejected rows to take {where}; {left}")
    for place, why in list(taken.left.items())[:SHOWN]:
        row = rows.slice(place, 1).to_pylist()[0]
        typer.echo(f"  {row['part']}, {row['unit']} {row['number']}: {shorten(why, 300)}")
    if len(taken.left) > SHOWN:
        typer.echo(f"  and {len(taken.left) - SHOWN:,} more")
    for row in taken.again.slice(0, SHOWN).to_pylist():
        typer.echo(f"  {row['part']}, {row['unit']} {row['number']}: now {shorten(row['reason'], 100)}")
    for place in taken.of[:SHOWN].tolist():
        row = rows.slice(place, 1).to_pylist()[0]
        typer.echo(f"  {row['part']}, {row['unit']} {row['number']}: was {shorten(row['reason'], 100)}")


def _say(why: str) -> None:
    typer.echo(why, err=True)


__all__ = ["Asking", "replay_of_feed", "replay_of_table"]
