"""Quix Streams: its deserializer, a filter that checks, one that deduplicates, and its own tumbling windows in RocksDB.

result = groups of the whole topic, see benchmarks.peers: the newest update of each window
"""

import logging
import tempfile
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from quixstreams import Application
from quixstreams.dataframe.windows import Count, Max, Min, Sum

from benchmarks.peers.common import Groups, Keys, arguments, flat, now, report

IDLE_S = 5.0  # without an event: the topic is at its end
GRACE_MS = 600_000
Moment = tuple[float, float]


def main() -> None:
    bootstrap, topic, events, result = arguments()
    with tempfile.TemporaryDirectory(prefix="quix-") as state:
        first, done, groups = run(bootstrap, topic, Path(state))
    report(first, events, groups, result, done)


def run(bootstrap: str, topic: str, state: Path) -> tuple[Moment, Moment, Groups]:
    """(when it began, when the last event came out, the groups)."""
    keys, seen, groups, last = Keys(), set[str](), Groups(), [(0.0, 0.0)]
    logging.getLogger("quixstreams").setLevel(logging.ERROR)

    def broken(error: Exception, row: Any, logger: Any) -> bool:
        return True  # what is no JSON is passed over

    def event_time_ms(value: Any, headers: Any, timestamp_ms: float, kind: Any) -> int:
        try:
            return int(datetime.fromisoformat(value["at"]).replace(tzinfo=UTC).timestamp() * 1000)
        except (KeyError, TypeError, ValueError):
            return int(timestamp_ms)  # the filter drops it

    def checked(event: dict[str, Any]) -> dict[str, Any] | None:
        last[0] = now()
        try:
            fields = flat(event, keys)
        except (KeyError, TypeError):
            return None
        if fields is None or fields[0] in seen:
            return None
        seen.add(fields[0])
        return {"value": fields[2]}

    def keep(window: dict[str, Any], key: Any, timestamp: Any, headers: Any) -> None:
        minute = datetime.fromtimestamp(window["start"] / 1000, UTC).strftime("%Y-%m-%dT%H:%M")
        groups[key, minute] = [window["count"], window["sum"], window["min"], window["max"]]
        last[0] = now()

    app = Application(
        broker_address=bootstrap,
        consumer_group=f"bench-{uuid.uuid4().hex}",
        auto_offset_reset="earliest",
        commit_interval=3600.0,
        state_dir=state,
        use_changelog_topics=False,
        on_consumer_error=broken,
        consumer_extra_config={"queued.min.messages": 1_000_000, "fetch.queue.backoff.ms": 5},
        loglevel="ERROR",
    )
    source = app.topic(topic, key_deserializer="str", value_deserializer="json", timestamp_extractor=event_time_ms)
    frame = app.dataframe(source).apply(checked).filter(lambda event: event is not None)
    windows = frame.tumbling_window(duration_ms=60_000, grace_ms=GRACE_MS)
    counted = windows.agg(count=Count(), sum=Sum("value"), min=Min("value"), max=Max("value")).current()
    counted.update(keep, metadata=True)
    first = now()
    app.run(timeout=IDLE_S)
    return first, last[0], groups


if __name__ == "__main__":
    main()
