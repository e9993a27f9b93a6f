"""`watershed replay`: rejected records sent again, once, as new records at the end of their partition; and rejected rows taken through."""

from pathlib import Path
from typing import Annotated

import typer

from console.commands.chosen import one_topic
from console.commands.rejections import since_ms, states
from console.commands.replay_rows import Asking, replay_of_feed, replay_of_table
from console.commands.row_places import rows_wanted
from console.commands.shortened import shorten
from pipeline.base.crash import crash_points
from pipeline.base.errors import SettingsError
from pipeline.log.kafka.producer import KafkaLogProducer
from pipeline.settings import Settings, by_source
from serving.rejected.listing import Wanted
from serving.rejected.originals import Place
from serving.rejected.replay import Plan, Replaying, plan

SHOWN = 10


def replay(
    topic: Annotated[
        str | None, typer.Option(metavar="TOPIC", help="The topic; needed when there are several.")
    ] = None,
    table: Annotated[
        str | None, typer.Option(metavar="TABLE", help="Rows that this table's loads rejected, into its next version.")
    ] = None,
    feed: Annotated[
        str | None, typer.Option(metavar="FEED", help="Rows that this feed rejected, onto its topic.")
    ] = None,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Only reasons that have this text, in any case.")] = "",
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only records from then on, as 2024-03-01 or 2024-03-01T12:00:00Z."),
    ] = None,
    partition: Annotated[
        list[int] | None,
        typer.Option(metavar="P", min=0, help="With --offset, a record; both may be given several times."),
    ] = None,
    offset: Annotated[
        list[int] | None, typer.Option(metavar="O", min=0, help="Its offset, once for each --partition.")
    ] = None,
    value: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Send the one record with this file's bytes as its value: a mend of the data."
        ),
    ] = None,
    part: Annotated[
        list[str] | None,
        typer.Option(metavar="PART", help="With --row, a row of a table or feed: its file; both several times."),
    ] = None,
    row: Annotated[
        list[int] | None, typer.Option(metavar="N", min=0, help="Its line, or place, once for each --part.")
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Mended rows, one for each row of a table or feed that is chosen."),
    ] = None,
    anyway: Annotated[bool, typer.Option("--anyway", help="Send what would be rejected again, too.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent, and send nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Send rejected records again, once, to the end of their partition; or take rejected rows of a load or a feed through, once."""
    rows = rows_wanted(reason, since_ms(since), part or [], row or [])
    kinds = [given for given in (topic, table, feed) if given is not None]
    of_rows = table is not None or feed is not None
    if len(kinds) > 1 or (of_rows and (partition or offset or value or anyway)) or (not of_rows and (part or file)):
        raise SettingsError(
            "--topic, --table and --feed are one replay each; --partition, --offset, --value and --anyway are for records of a topic,"
            " --part, --row and --file for rows of a table or a feed"
        )
    ask = Asking(dry_run, yes)
    if table is not None:
        replay_of_table(table, rows, file, ask)
    elif feed is not None:
        replay_of_feed(feed, rows, file, ask)
    else:
        _records(topic, Wanted(reason, rows.since_ms, None, _places(partition or [], offset or [])), value, anyway, ask)


def _records(topic: str | None, wanted: Wanted, value: Path | None, anyway: bool, ask: Asking) -> None:
    settings = Settings.load()
    mended = _content(value, wanted.places)
    name = one_topic(topic, list(by_source(settings.load_views())), "watershed replay --topic")
    for database, _, state in states(settings, [name], "replay"):
        planned = plan(state, wanted, mended, anyway)
        _tell(name, planned)
        begun = sum(r.sent_offset is None for r in state.replays)
        if ask.dry_run or not (planned.send or begun):
            return
        if planned.send:
            ask.confirm(f"send {len(planned.send):,} records to topic {name}?")
        crash = crash_points()
        producer = KafkaLogProducer(state.log.connection, name, f"watershed-replay-{name}", crash=crash)  # type: ignore[attr-defined]
        try:
            sent = Replaying(state, database, producer, settings.start_patience_s, crash, _say).run(planned.send)
        finally:
            producer.close()
        for (p, o), at in sent.found.items():
            typer.echo(
                f"{name}: partition {p}, offset {o} had been sent already, by a replay that was ended: offset {at}"
            )
        for (p, o), at in list(sent.now.items())[:SHOWN]:
            typer.echo(f"{name}: partition {p}, offset {o} sent again: offset {at}")
        typer.echo(f"{name}: {len(sent.now):,} records sent again")


def _places(partitions: list[int], offsets: list[int]) -> frozenset[Place]:
    if len(partitions) != len(offsets):
        raise SettingsError(
            f"--partition was given {len(partitions)} times and --offset {len(offsets)} times: a record has one of each, in this order"
        )
    return frozenset(zip(partitions, offsets, strict=True))


def _content(file: Path | None, places: frozenset[Place]) -> bytes | None:
    if file is None:
        return None
    if len(places) != 1:
        raise SettingsError("--value FILE is one record's value: say which by one --partition and one --offset")
    try:
        return file.read_bytes().strip()
    except OSError as error:
        raise SettingsError(f"--value {file} cannot be read ({error.strerror})") from None


def _tell(topic: str, planned: Plan) -> None:
    typer.echo(f"{topic}: {len(planned.send):,} rejected records to send, {len(planned.held):,} are not sent")
    for r, why in planned.held[:SHOWN]:
        typer.echo(f"  partition {r.partition}, offset {r.offset}: {shorten(why, 300)}")
    if len(planned.held) > SHOWN:
        typer.echo(f"  and {len(planned.held) - SHOWN:,} more")
    for partition, offset in planned.absent:
        typer.echo(
            f"  partition {partition}, offset {offset}: it is not among the rejected records that were asked for"
        )
    for resend in planned.send[:SHOWN]:
        o = resend.original
        mended = " with another value" if resend.mended else ""
        typer.echo(f"  partition {o.partition}, offset {o.offset}{mended}: was {shorten(resend.reason, 100)}")


def _say(why: str) -> None:
    typer.echo(why, err=True)


__all__ = ["replay"]
