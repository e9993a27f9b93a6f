"""The view of the benchmarks on a topic, in a number and with windows that the environment names: what benchmarks.growth varies.

BENCH_TOPIC: the topic        BENCH_VIEWS: how many views of that source        BENCH_WINDOW: minutes or days
BENCH_IDENTITY: the column of the identity, or nothing for a source whose events are never duplicates
"""

import os
from dataclasses import replace

from benchmarks.views_bench import events, minutes
from pipeline import tumbling

source = replace(
    events, topic=os.environ.get("BENCH_TOPIC", events.topic), identity=os.environ.get("BENCH_IDENTITY", "id") or None
)
window = tumbling(**{os.environ.get("BENCH_WINDOW", "minutes"): 1})
names = ["minutes", *(f"minutes_{n}" for n in range(1, int(os.environ.get("BENCH_VIEWS", "1"))))]
VIEWS = tuple(replace(minutes, name=name, source=source, window=window) for name in names)
