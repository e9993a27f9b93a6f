"""benchmarks.speed with nested events: a million of some 600 bytes, as a repository's host sends them to a webhook.

the events, the view and what the peers read of an event: at paths; all else, and what must come out, as in benchmarks.speed
"""

import argparse

from benchmarks.speed import ALL, CONFLUENT, CONSUME_ONLY, KAFKA_PYTHON, Backlog
from benchmarks.speed import main as measure
from benchmarks.webhooks import WEBHOOK

VIEWS = "benchmarks.views_nested"
PEERS = tuple(peer for peer in ALL if peer.name in (CONSUME_ONLY, CONFLUENT, KAFKA_PYTHON))
BACKLOG = Backlog("nested", "nested events", WEBHOOK, VIEWS, VIEWS, PEERS, ("--nested",))


def main(given: argparse.Namespace) -> None:
    """Measure, print and store."""
    measure(given, BACKLOG)
