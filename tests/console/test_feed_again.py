"""A feed whose origin goes away in the middle looks again by itself, from the last committed transaction, and each row is sent once."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from console.commands.feed import _Run
from ingestion import Custom, Feed
from ingestion.feeding import Feeding
from ingestion.retrying import Retrier
from pipeline.base.errors import OriginAway
from tests.ingestion.test_feeding import ORDERS, Broker, feeding

BREAKS: list[int] = []


def orders() -> Iterator[dict[str, Any]]:
    """Orders that break off after as many as BREAKS says, once a reading."""
    stop = BREAKS.pop(0) if BREAKS else 20
    for n in range(stop):
        at = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=n)
        yield {"id": f"o{n}", "shop": "x", "at": at.isoformat(), "amount": 1}
    if stop < 20:
        raise OriginAway("the server closed the connection")


@pytest.mark.parametrize(("breaks", "sent"), [([7, 0], 20), ([3] * 50, 0)], ids=["comes back", "stays away"])
def test_what_is_away_is_looked_at_again_six_times_in_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, breaks: list[int], sent: int
) -> None:
    monkeypatch.setitem(Retrier.__init__.__kwdefaults__, "sleep", lambda s: None)  # type: ignore[arg-type,index]
    feed, broker = Feed("orders", Custom(orders), ORDERS, cursor="at"), Broker()
    BREAKS[:] = breaks

    @contextmanager
    def opened() -> Iterator[Feeding]:
        yield feeding(feed, broker, tmp_path)

    run = _Run(None, feed, 100, threading.Event(), lambda name, fed, where: None)  # type: ignore[arg-type]
    run._open = opened
    assert run.goes_on(follow=False) is False
    assert Counter(broker.ids) == Counter(f"o{n}" for n in range(sent)) and run.fed.sent == sent
    assert run.fed.retries == (2 if sent else 5)
    assert (run.failed is None) == bool(sent) and (sent or "(tried 6 times)" in str(run.failed))
