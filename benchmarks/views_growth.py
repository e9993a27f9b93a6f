"""The view of the benchmarks on a topic, in a number and with windows that the environment names: what benchmarks.growth varies.

    BENCH_TOPIC: the topic        BENCH_VIEWS: how many views of that source        BENCH_WINDOW: minutes or days
"""

import os
from dataclasses import replace

from benchmarks.views_bench import events, minutes
from pipeline import tumbling

source = replace(events, topic=os.environ.get("BENCH_TOPIC", events.topic))
window = tumbling(**{os.environ.get("BENCH_WINDOW", "minutes"): 1})
VIEWS = tuple(
    replace(minutes, name=f"minutes_{n}", source=source, window=window) for n in range(int(os.environ.get("BENCH_VIEWS", "1")))
)
