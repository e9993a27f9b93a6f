"""Tables and feeds as `watershed rejected` and `watershed replay` choose and open them, and the places of their rows."""

from collections.abc import Iterator, Sequence

from console.commands.waiting import patient_database, patient_log
from ingestion.feed import load_feeds
from ingestion.feed_cursors import newest_commits
from ingestion.rejected.feed_files import read_rejects
from ingestion.rejected.listing import RowListing, listing_of
from ingestion.rejected.of_tables import rejected_of_table
from ingestion.rejected.rows import RowsWanted
from pipeline.base.errors import Refused, SettingsError, did_you_mean
from pipeline.definition.views_module import table_named
from pipeline.lake.lake import Lake
from pipeline.settings import Settings
from serving.stores.tables import PostgresTableStore


def rows_wanted(reason: str, since_ms: int | None, parts: Sequence[str], rows: Sequence[int]) -> RowsWanted:
    """The filter; SettingsError unless there is a row for each part."""
    if len(parts) != len(rows):
        raise SettingsError(
            f"--part was given {len(parts)} times and --row {len(rows)} times: a row has one of each, in this order"
        )
    return RowsWanted(reason, since_ms, frozenset(zip(parts, rows, strict=True)))


def table_listings(settings: Settings, name: str | None, wanted: RowsWanted, limit: int) -> Iterator[RowListing]:
    """The rejected rows of one table, or of all declared ones."""
    tables = settings.load_tables()
    chosen = tables if name is None else (table_named(tables, name),)
    if chosen:
        store, lake = PostgresTableStore(patient_database(settings, "rejected")), Lake(settings.lake)
        for table in chosen:
            kept = rejected_of_table(lake, store.versions(table.name))
            yield listing_of("table", table.name, kept, wanted, limit)


def feed_listings(settings: Settings, name: str | None, wanted: RowsWanted, limit: int) -> Iterator[RowListing]:
    """The rejected rows of one feed, or of all that there are: the declared ones, and files that were ingested."""
    declared = [feed.name for feed in load_feeds(settings.views)]
    log, lake = patient_log(settings), Lake(settings.lake)
    try:
        commits = newest_commits(log)
    finally:
        log.close()
    rejects = {feed: commits[feed].cursor.rejects if feed in commits else "" for feed in declared}
    for other in sorted(commits.keys() - set(declared)):  # those that were ingested here, and not those of another lake
        path = commits[other].cursor.rejects
        if path and lake.exists(path):
            rejects[other] = path
    known = list(rejects)
    if name is not None and name not in known:
        there = f"there are {', '.join(known)}" if known else "none is declared, and none was fed"
        raise Refused(f"there is no feed {name!r}; {there}.{did_you_mean(name, known)}")
    for feed in known if name is None else [name]:
        yield listing_of("feed", feed, read_rejects(lake, rejects[feed]), wanted, limit)


__all__ = ["feed_listings", "rows_wanted", "table_listings"]
