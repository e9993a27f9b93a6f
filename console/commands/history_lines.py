"""One event of a history in words: a line that says what it was, and lines of what it was made from."""

from collections.abc import Mapping, Sequence
from typing import Any

from console.commands.rejected_rows import ending
from console.commands.shortened import shorten
from ingestion.history import Event

FILES, WIDTH, QUERY = 5, 60, 400


def summary(event: Event) -> str:
    """The event in a line."""
    match event["kind"]:
        case "table":
            if not event["made"]:
                return f"version {event['version']}: load {event['load']} began, and made nothing yet"
            what = "replay" if event["replay"] else f"load {event['load']}"
            return f"version {event['version']}: {what}: {_counted(event['counts'], event['counts']['read'])}"
        case "feed":
            counts = event["counts"]
            return f"in {counts['in']:,} so far = {counts['sent']:,} sent + {counts['rejected']:,} rejected"
    adopted = ", ".join(f"{table} {version}" for table, version in event.get("adopted", {}).items())
    what = f"night {event['night']}" if "night" in event else "start" if not event["number"] else "cut"
    told = f"{what}, {event['status']}" if not adopted else f"{what}, adopts {adopted}"
    counts, so_far = event["counts"], event.get("counts_from_start")
    if counts is None and so_far is not None:
        return f"{told}: {_counted(so_far, sum(so_far.values()))}, since the log's start"
    return told if counts is None else f"{told}: {_counted(counts, sum(counts.values()))}"


def _counted(counts: Mapping[str, int], read: int) -> str:
    parts = [f"{n:,} {name}" for name, n in counts.items() if n and name not in ("read", "gone", "rows")]
    more = [f"{counts[name]:,} {name}" for name in ("gone", "rows") if counts.get(name)]
    return f"in {read:,} = {' + '.join(parts) or '0'}" + (f"; {', '.join(more)}" if more else "")


def details(event: Event) -> list[str]:
    """Lines of what it was made from."""
    match event["kind"]:
        case "table":
            return _of_version(event)
        case "feed":
            begun = event["begun"]
            lines = [f"up to {begun['number']:,} of {ending(begun['part'], WIDTH - 20)}"] if begun else []
            lines += [f"cursor {event['cursor_to']}"] if event["cursor_to"] is not None else []
            return [*lines, *_files(event["files"])]
    start, end = event["log"]
    lines = [f"log {start} to {end}, generation {event['generation']}, cut {event['number']}"]
    if event.get("tables"):
        lines.append("with " + ", ".join(f"{table} {version}" for table, version in event["tables"].items()))
    return [*lines, f"definition {event['definition']}"]


def _of_version(event: Event) -> list[str]:
    if not event["made"]:
        return []
    lines = [f"{event['mode']}" + (f" over version {event['base']}" if event["base"] is not None else "")]
    lines += [f"query {shorten(event['query'], QUERY)}"] if event["query"] else []
    if event["cursor_to"] is not None:
        lines.append(f"cursor from {event['cursor_from'] or 'the start'} to {event['cursor_to']}")
    lines += _files(event["files"])
    if (event["attempts"] or 1) > 1 or event["retries"]:
        lines.append(f"read {event['attempts']} times, {event['retries']:,} requests made again")
    lines += [f"in force in {cut['topic']} from {cut['offsets']} on" for cut in event["adopted"]]
    nights = [cut["night"] for cut in event["nights"]]
    if nights:
        lines.append(f"nights {nights[0]}" + (f" to {nights[-1]}" if len(nights) > 1 else ""))
    lines += [f"views {', '.join(event['views'])}"] if event["views"] else []
    return [*lines, f"definition {event['definition']}"]


def _files(files: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = []
    for file in files[-FILES:]:
        told = f" ({file['bytes']:,} bytes, {file['modified'][:19]})" if "bytes" in file else ""
        lines.append(f"from {ending(file['name'], WIDTH - 20)}{told}")
    return lines + ([f"and {len(files) - FILES:,} parts more"] if len(files) > FILES else [])


__all__ = ["details", "summary"]
