"""Lineage as documents: which version of what was made when, from which files, query, cursor, log and definition.

    an event = one version of a table, batch of a view, cut of a topic, or transaction of a feed        newest first, always

A table's version says what its manifest says; a view's batch is a function of the log up to its cut and of the versions in force there.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ingestion.feed_cursors import FeedCommit
from serving.history import CutHistory, History
from serving.ops.table_versions import LoadedVersion

Event = dict[str, Any]
OF_A_FILE = re.compile(r"(\d+)-(\d{16,19})(?:-(.*))?$")  # what ingestion.origins.places makes of size, time and ETag


def table_events(history: History, table: str, views: Mapping[str, Iterable[str]]) -> list[Event]:
    """Versions of a table; `views` are the tables that each view looks up."""
    users = sorted(view for view, tables in views.items() if table in tables)
    return [_version(history, version, users) for version in reversed(history.tables.get(table, []))]


def _version(history: History, version: LoadedVersion, users: Sequence[str]) -> Event:
    facts = version.facts
    origin = facts.get("origin", {})
    cuts = [cut for cut in history.cuts if cut.versions.get(version.table) == version.version]
    return {
        "kind": "table",
        "name": version.table,
        "at": version.made_at or version.begun_at,
        "version": version.version,
        "load": version.load,
        "made": version.manifest is not None,
        "begun_at": version.begun_at,
        "shown_at": version.exposed_at,
        "replay": "replay" in facts,
        "base": facts.get("base"),
        "mode": facts.get("mode"),
        "counts": facts.get("counts"),
        "origin": origin,
        "query": origin.get("query"),
        "files": [_file(part) for part in facts.get("parts", [])],
        "cursor_from": facts.get("since"),
        "cursor_to": facts.get("cursor"),
        "attempts": facts.get("attempts"),
        "retries": facts.get("retries"),
        "definition": facts.get("table_fingerprint"),
        "adopted": [_cut(cut) for cut in cuts if cut.adopted.get(version.table) == version.version],
        "nights": [_cut(cut) for cut in cuts if cut.date is not None],
        "views": list(users) if cuts else [],
    }


def _file(part: Mapping[str, str]) -> Event:
    found = OF_A_FILE.fullmatch(part["version"])
    if found is None:
        return dict(part)
    modified = datetime.fromtimestamp(int(found[2]) / 1e9, UTC).isoformat(timespec="milliseconds")
    return {**part, "bytes": int(found[1]), "modified": modified, **({"etag": found[3]} if found[3] else {})}


def _cut(cut: CutHistory) -> Event:
    night = {"night": str(cut.date)} if cut.date is not None else {}
    return {
        "topic": cut.topic,
        "generation": cut.generation,
        "number": cut.number,
        **night,
        "offsets": list(cut.offsets),
    }


def view_events(history: History, view: str, tables: Iterable[str] | None) -> list[Event]:
    """Batches of a view, of every generation; `tables` are those that it looks up, None where nobody knows any more."""
    known = None if tables is None else set(tables)
    found = []
    for cut in reversed(history.cuts):
        fingerprint = history.views.get((cut.topic, cut.generation), {}).get(view)
        if fingerprint is None or cut.status == "adopted":
            continue
        versions = {t: v for t, v in cut.versions.items() if known is None or t in known}
        event = {"kind": "view", "name": view, "at": cut.published_at or cut.chosen_at, **_cut(cut)}
        event |= {"status": cut.status, "folded_from": cut.staged_from, "counts": cut.views.get(view)}
        event |= {"log": [list(cut.below), list(cut.offsets)], "tables": versions, "definition": fingerprint}
        event["source_definition"] = history.sources[cut.topic, cut.generation]
        found.append(event)
    return found


def topic_events(history: History, topic: str) -> list[Event]:
    """Cuts of a topic, of every generation: those of nights, and those that adopted versions of tables."""
    found = []
    for cut in reversed(history.cuts):
        if cut.topic != topic:
            continue
        event = {"kind": "topic", "name": topic, "at": cut.published_at or cut.chosen_at, **_cut(cut)}
        event |= {"status": cut.status, "log": [list(cut.below), list(cut.offsets)], "counts": cut.added}
        event |= {"counts_from_start": cut.counts, "adopted": dict(cut.adopted)}
        event["definition"] = history.sources[cut.topic, cut.generation]
        found.append(event)
    return found


def feed_events(commits: Sequence[FeedCommit], feed: str) -> list[Event]:
    """Transactions of a feed that Kafka still has."""
    found = []
    for commit in reversed(commits):
        if commit.feed != feed:
            continue
        cursor = commit.cursor
        counts = {"in": cursor.sent + cursor.rejected, "sent": cursor.sent, "rejected": cursor.rejected}
        begun = {"part": cursor.part, "number": cursor.number} if cursor.part else {}
        event = {"kind": "feed", "name": feed, "at": commit.at, "counts": counts, "parts_done": len(cursor.done)}
        found.append({**event, "begun": begun, "cursor_to": cursor.since, "files": _done(cursor.done)})
    return found


def _done(parts: Mapping[str, str]) -> list[Event]:
    return [_file({"name": name, "version": version}) for name, version in parts.items()]


__all__ = ["Event", "feed_events", "table_events", "topic_events", "view_events"]
