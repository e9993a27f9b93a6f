"""Options, filters and rows that `watershed rejected` and `watershed replay` share."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Table

from console.commands.waiting import patient_database, patient_log
from pipeline.base.errors import SettingsError
from pipeline.definition.view import View
from pipeline.handover.generation import refuse_other_log
from pipeline.lake.lake import Lake
from pipeline.log.kafka.log import KafkaLog
from pipeline.settings import Settings, by_source
from serving.postgres.connection import Engine
from serving.rejected.state import State, read_state

SHAPES = 15


def since_ms(text: str | None) -> int | None:
    """Milliseconds since 1970 of an ISO date or time, in UTC where it has no zone; SettingsError for anything else."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise SettingsError(
            f"--since {text!r} is no time: write 2024-03-01 or 2024-03-01T12:00:00Z (UTC without a zone)"
        ) from None
    return round((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1000)


def states(settings: Settings, topics: Sequence[str], command: str) -> Iterator[tuple[Engine, KafkaLog, State]]:
    """The state of each topic's source, with the database and the log that it was read from."""
    sources = by_source(settings.load_views())
    database, log, lake = patient_database(settings, command), patient_log(settings), Lake(settings.lake)
    try:
        for topic in topics:
            views: tuple[View, ...] = sources[topic]
            state = read_state(database, log, lake, views[0].source, views)
            refuse_other_log(state.generation, log.describe(topic))
            yield database, log, state
    finally:
        log.close()


def by_reason(title: str, unit: str, counts: Sequence[tuple[str, int]]) -> Table:
    """The counts of each reason, the most frequent first, as they are given; those behind SHAPES of them in one line."""
    table = Table(title=title, title_justify="left", box=SIMPLE)
    table.add_column(unit, justify="right", no_wrap=True)
    table.add_column("reason", overflow="fold")
    for reason, count in counts[:SHAPES]:
        table.add_row(f"{count:,}", escape(reason))
    if len(counts) > SHAPES:
        rest = counts[SHAPES:]
        table.add_row(f"{sum(count for _, count in rest):,}", f"{len(rest)} other reasons")
    return table


def when(timestamp_ms: int) -> str:
    """A record's timestamp to the second, in UTC; - where it has none."""
    if timestamp_ms < 0:
        return "-"
    return datetime.fromtimestamp(timestamp_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


__all__ = ["by_reason", "since_ms", "states", "when"]
