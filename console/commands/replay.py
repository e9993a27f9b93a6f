"""`watershed replay`: rejected records sent again, once, as new records at the end of their partition."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from console.commands.chosen import one_topic
from console.commands.rejections import since_ms, states
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
    anyway: Annotated[bool, typer.Option("--anyway", help="Send what would be rejected again, too.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent, and send nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Send rejected records again, once, to the end of their partition; both layers take them like any record."""
    settings = Settings.load()
    places = _places(partition or [], offset or [])
    mended = _content(value, places)
    name = one_topic(topic, list(by_source(settings.load_views())), "watershed replay --topic")
    wanted = Wanted(reason, since_ms(since), None, places)
    for database, _, state in states(settings, [name], "replay"):
        planned = plan(state, wanted, mended, anyway)
        _tell(name, planned)
        begun = sum(r.sent_offset is None for r in state.replays)
        if dry_run or not (planned.send or begun):
            return
        if planned.send and not yes:
            _confirm(f"send {len(planned.send):,} records to topic {name}?")
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


def _confirm(question: str) -> None:
    if not sys.stdin.isatty():
        raise SettingsError(f"{question} nobody can be asked here: say --yes, or --dry-run to look")
    typer.confirm(question, abort=True)


def _say(why: str) -> None:
    typer.echo(why, err=True)


__all__ = ["replay"]
