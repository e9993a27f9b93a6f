"""An API that fails: what may pass is asked again, what will not is said, and no row is lost without a word."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from ingestion.origin import Reading
from ingestion.origins import http
from ingestion.origins.rest import (
    Cursor,
    NextUrl,
    Offset,
    PageNumber,
    Rest,
)
from pipeline.base.errors import OriginAway, OriginError
from tests.support.api import ROWS, Api, Asked, Reply, by_number, pages
from tests.support.databases import read

Make = Callable[..., Reading]
Serve = Callable[[Callable[[Asked], Any]], Api]
pytestmark = pytest.mark.usefixtures("waits")


# ---- what is wrong for a while
def half(asked: Asked) -> Reply:
    return Reply({"data": {"items": ROWS}}, cut=100)


TRANSIENT: dict[str, tuple[Callable[[Asked], Any], str]] = {
    "500": (lambda asked: Reply("oops", status=500), "answers 500"),
    "503": (lambda asked: Reply("", status=503), "answers 503"),
    "429": (lambda asked: Reply("", status=429), "answers 429"),
    "cut off": (half, "breaks off in the middle"),
    "half a JSON": (lambda asked: Reply({"data": {"items": ROWS}}, cut=100, counted=False), "half a JSON"),
    "no gzip": (lambda asked: Reply(b"abc", headers={"Content-Encoding": "gzip"}), "not compressed as it says"),
}


@pytest.mark.parametrize("fault", TRANSIENT)
def test_what_is_wrong_for_a_while_is_asked_again_and_then_is_away(
    serve: Serve, reading: Make, waits: list[float], fault: str
) -> None:
    broken, words = TRANSIENT[fault]
    api = serve(lambda asked: broken(asked) if asked.number in (2, 3) else by_number(asked))
    said: list[str] = []
    origin = Rest(f"{api.url}/list", rows="data.items", paging=PageNumber())
    assert read(origin, reading(said)) == ROWS and len(api.asked) == 8 and len(waits) == 2
    assert (
        all(f"page 2 of {api.url}/list" in text and words in text and "attempt" in text for text in said)
        and len(said) == 2
    )
    api.answer = lambda asked: broken(asked) if asked.params["page"] == "2" else by_number(asked)
    with pytest.raises(OriginAway, match=rf"page 2 of .*{words}.*\(tried 6 times\)"):
        read(origin, reading())


def test_retry_after_is_waited_for_as_seconds_and_as_a_date(serve: Serve, reading: Make, waits: list[float]) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    for header, status, low, high in (
        ("17", 429, 17, 18),
        (later, 503, 60, 90.1),
        ("33", 403, 33, 34),
        ("nonsense", 429, 0, 1),
    ):
        waits.clear()
        api = serve(
            lambda asked, h=header, s=status: (
                Reply("", status=s, headers={"Retry-After": h}) if asked.number == 1 else []
            )
        )
        assert read(Rest(api.url), reading()) == []
        assert len(waits) == 1 and low <= waits[0] <= high
    api = serve(lambda asked: Reply("", status=429, headers={"Retry-After": "86400"}))
    with pytest.raises(OriginAway) as away:
        read(Rest(api.url), reading())
    assert away.value.retry_after_s == 86400 and len(api.asked) == 1


def test_a_server_that_is_not_there_or_too_slow_is_away(
    serve: Serve, reading: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Api(lambda asked: []) as api:
        gone = api.url
    with pytest.raises(OriginAway, match=r"cannot be reached \(tried 6 times\)"):
        read(Rest(gone), reading())
    monkeypatch.setattr(http, "SILENCE_S", 0.05)
    slow = serve(lambda asked: time.sleep(0.3))
    with pytest.raises(OriginAway, match="does not answer in time"):
        read(Rest(slow.url), reading())
    monkeypatch.setattr(http, "SILENCE_S", 5.0)
    monkeypatch.setattr(http, "DEADLINE_S", 0.2)
    dribbling = serve(lambda asked: Reply(chunks=_dribble()))
    with pytest.raises(OriginAway, match="has not answered whole"):
        read(Rest(dribbling.url), reading())


def _dribble() -> Iterator[bytes]:
    while True:
        yield b" " * 300_000
        time.sleep(0.05)


# ---- what is wrong for good

WRONG: dict[str, tuple[Callable[[Asked], Any], dict[str, Any], str]] = {
    "HTML": (
        lambda asked: Reply(b"<!doctype html><p>Log in", headers={"Content-Type": "text/html"}),
        {},
        "HTML instead of JSON, which begins with '<!doctype",
    ),
    "nothing": (lambda asked: Reply(b""), {}, "nothing instead of JSON"),
    "no JSON": (lambda asked: Reply(b'{"a": NaN}'), {}, "JSON that is none .*NaN"),
    "404": (lambda asked: Reply({"e": 1}, status=404), {}, "answers 404"),
    "400": (lambda asked: Reply({"e": "bad"}, status=400), {}, 'answers 400 .*"bad"'),
    "an object": (
        lambda asked: {"data": [1], "x": 1},
        {},
        "an object, not with a list; name the list of rows, such as rows='data'",
    ),
    "another path": (
        lambda asked: {"data": {"itmes": []}},
        {"rows": "data.items"},
        "nothing at 'data.items'; there are itmes. Did you mean 'itmes'",
    ),
    "no list": (lambda asked: {"data": "x"}, {"rows": "data"}, "a text at 'data', not a list"),
    "the same page": (lambda asked: ROWS[:5], {"paging": PageNumber()}, "page 2 .* read already"),
    "two in turn": (lambda asked: pages(ROWS, 5, asked.number % 2), {"paging": Offset()}, "page 3 .* read already"),
    "a circle": (
        lambda asked: {"i": [{"n": asked.number}], "next": "/?n=1"},
        {"rows": "i", "paging": NextUrl()},
        "goes round in a circle",
    ),
    "for ever": (lambda asked: [{"n": asked.number}], {"paging": PageNumber(), "pages": 10}, "more than 10 pages"),
    "no paging": (
        lambda asked: Reply([1], headers={"Link": '</x>; rel="next"'}),
        {},
        r"declare paging=LinkHeader\(\), or rows are lost",
    ),
    "no count": (
        lambda asked: {"i": [{}], "n": "many"},
        {"rows": "i", "paging": Offset(total="n")},
        "has 'many' at 'n'",
    ),
    "next is no URL": (lambda asked: {"i": [{}], "next": 3}, {"rows": "i", "paging": NextUrl()}, "NextUrl needs a URL"),
    "huge": (lambda asked: Reply(chunks=(b" " * 2**20 for _ in range(10**6))), {}, "more than 67,108,864 bytes"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_what_is_wrong_for_good_is_asked_once_and_said_clearly(serve: Serve, reading: Make, fault: str) -> None:
    answer, more, words = WRONG[fault]
    api = serve(answer)
    with pytest.raises(OriginError, match=words) as refused:
        read(Rest(f"{api.url}/", **more), reading())
    assert not isinstance(refused.value, OriginAway) and "\n" not in str(refused.value)
    assert len(api.asked) <= 11


def test_a_list_that_shrinks_while_it_is_read_is_to_be_read_again(serve: Serve, reading: Make) -> None:
    """A row that goes moves those behind it onto a page that was read: without the count they would be lost."""

    def shrinking(asked: Asked) -> Any:
        left = ROWS[1:] if asked.number > 1 else ROWS
        start = int(asked.params["offset"])
        return {"items": left[start : start + 5], "total": len(left)}

    api = serve(shrinking)
    origin = Rest(api.url, rows="items", paging=Offset(size=5, total="total"))
    with pytest.raises(OriginAway, match="counts 22 rows, where it counted 23 before"):
        read(origin, reading())
    assert read(origin, reading()) == ROWS[1:]
    api.answer = lambda asked: {"items": ROWS[:3] if asked.params["offset"] == "0" else [], "total": 23}
    with pytest.raises(OriginAway, match="counts 23 rows and gave 3"):
        read(origin, reading())


def test_rows_that_a_page_repeats_and_a_missing_cursor_are_reported(serve: Serve, reading: Make) -> None:
    def growing(asked: Asked) -> Any:
        whole = [{"id": -1}, *ROWS] if asked.number > 1 else ROWS
        start = int(asked.params["offset"])
        return whole[start : start + 5]

    said: list[str] = []
    found = read(Rest(serve(growing).url, paging=Offset(size=5)), reading(said))
    assert [row["id"] for row in found] == [*range(5), *range(4, 23)]
    assert len(said) == 1 and "1 rows of page 2" in said[0] and "stood on the page before too" in said[0]
    said.clear()
    read(Rest(serve(lambda asked: {"i": [{"a": 1}]}).url, rows="i", paging=Cursor("meta.nxet")), reading(said))
    assert len(said) == 1 and "nothing at 'meta.nxet': it is taken for the only page" in said[0]
