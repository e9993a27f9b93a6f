"""An API as an origin, over real sockets: every page once, whoever asks is known to it and to nobody else."""

from __future__ import annotations

import base64
import logging
import pickle
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from ingestion.origin import Origin, Part, Reading
from ingestion.origins.rest import (
    ApiKey,
    Basic,
    Bearer,
    Children,
    Cursor,
    LinkHeader,
    NextUrl,
    OAuth,
    Offset,
    PageNumber,
    Rest,
)
from pipeline.base.errors import DefinitionError, OriginAway, OriginError, SettingsError
from tests.support.api import ROWS, Api, Asked, Reply, by_number, pages
from tests.support.databases import read

Make = Callable[..., Reading]
Serve = Callable[[Callable[[Asked], Any]], Api]
pytestmark = pytest.mark.usefixtures("waits")


# ---- pages
def by_offset(asked: Asked) -> Any:
    """A server that gives five at most, whatever is asked for."""
    start = int(asked.params["offset"])
    return {"data": {"items": ROWS[start : start + min(5, int(asked.params["limit"]))]}, "meta": {"total": len(ROWS)}}


def by_cursor(asked: Asked) -> Any:
    number = int(asked.params.get("cursor", "p0")[1:])
    following = {"next": f"p{number + 1}"} if number < 4 else {}
    return {"data": {"items": pages(ROWS, 5, number)}, "meta": following}


def by_next_url(asked: Asked) -> Any:
    number = int(asked.params.get("n", 0))
    return {"data": {"items": pages(ROWS, 5, number)}, "next": f"/list?n={number + 1}" if number < 4 else None}


def by_link(asked: Asked) -> Any:
    number = int(asked.params.get("n", 0))
    link = f'</list?n={number + 1}>; rel="next", </list?n=4>; rel="last"' if number < 4 else '</list?n=0>; rel="first"'
    return Reply({"data": {"items": pages(ROWS, 5, number)}}, headers={"Link": link})


WAYS: list[tuple[Any, Callable[[Asked], Any], int]] = [
    (PageNumber(), by_number, 6),
    (PageNumber(size=5, total="meta.total"), by_number, 5),
    (Offset(size=1000), by_offset, 6),
    (Offset(size=5, total="meta.total"), by_offset, 5),
    (Cursor("meta.next"), by_cursor, 5),
    (NextUrl("next"), by_next_url, 5),
    (LinkHeader(), by_link, 5),
]


@pytest.mark.parametrize(("paging", "answer", "requests"), WAYS, ids=[str(paging) for paging, _, _ in WAYS])
def test_every_page_is_read_once(
    serve: Serve, reading: Make, paging: Any, answer: Callable[[Asked], Any], requests: int
) -> None:
    api = serve(answer)
    said: list[str] = []
    origin = Rest(f"{api.url}/list", rows="data.items", paging=paging, params={"status": "open"})
    assert read(origin, reading(said)) == ROWS
    assert len(api.asked) == requests and said == []
    assert api.asked[0].params["status"] == "open" and api.asked[0].headers["accept"] == "application/json"


def test_a_sample_asks_for_no_more_pages_than_it_needs(serve: Serve, reading: Make) -> None:
    api = serve(by_number)
    origin = Rest(f"{api.url}/list", rows="data.items", paging=PageNumber())
    assert read(origin, replace(reading(), limit=7)) == ROWS[:7] and len(api.asked) == 2


def test_numbers_are_exact_and_what_is_no_object_is_broken_at_its_place(serve: Serve, reading: Make) -> None:
    api = serve(lambda asked: Reply(b'\xef\xbb\xbf [{"a": 0.10, "b": 12345678901234567890}, 7, {"a": 1}]'))
    (rows,) = Rest(api.url).read(Part("x"), reading())
    assert rows.batch.to_pylist() == [
        {"a": Decimal("0.10"), "b": Decimal(12345678901234567890)},
        {"a": Decimal("1.00"), "b": None},
    ]
    assert rows.numbers.tolist() == [1, 3] and [(b.number, b.reason) for b in rows.broken] == [
        (2, "is no object but a number")
    ]


def test_the_cursor_is_passed_on_where_the_api_has_a_parameter_for_it(serve: Serve, reading: Make) -> None:
    api = serve(lambda asked: [])
    since = datetime(2026, 1, 1, tzinfo=UTC).astimezone()
    for given in (since, 17, None):
        read(Rest(api.url, since="from"), replace(reading(), cursor="at", since=given))
    assert [one.params.get("from") for one in api.asked] == ["2026-01-01T00:00:00Z", "17", None]


def test_children_of_each_row_are_read_with_what_is_kept_of_their_parent(serve: Serve, reading: Make) -> None:
    def answer(asked: Asked) -> Any:
        if asked.path == "/orders":
            return [
                {"id": "a/b", "customer": {"name": "Ann"}},
                {"customer": {"name": "Bob"}},
                {"id": "gone", "customer": {"name": "C"}},
                {"id": 3, "customer": {"name": "D"}},
            ]
        if asked.path == "/orders/gone/lines":
            return Reply({"error": "not found"}, status=404)
        page = int(asked.params["page"])
        return {"lines": [{"line": f"{asked.path} {page}"}] if page < 3 else []}

    api = serve(answer)
    below = Children(
        f"{api.url}/orders/{{id}}/lines",
        rows="lines",
        paging=PageNumber(),
        keep={"order": "id", "who": "customer.name"},
    )
    (rows,) = Rest(f"{api.url}/orders", children=below).read(Part("x"), reading())
    found = rows.batch.to_pylist()
    assert [(row["order"], row["who"], row["line"]) for row in found] == [
        ("a/b", "Ann", "/orders/a%2Fb/lines 1"),
        ("a/b", "Ann", "/orders/a%2Fb/lines 2"),
        ("3", "D", "/orders/3/lines 1"),
        ("3", "D", "/orders/3/lines 2"),
    ]
    assert [(one.number, one.reason.partition(" answers ")[2] or one.reason) for one in rows.broken] == [
        (3, "has no 'id', by which its children are found"),
        (4, '404 Not Found: {"error": "not found"}'),
    ]
    with pytest.raises(OriginError, match="has 'line' itself"):
        read(Rest(f"{api.url}/orders", children=replace(below, keep={"line": "id"})), reading())


def test_no_more_requests_a_second_are_made_than_declared(serve: Serve, reading: Make) -> None:
    api = serve(by_number)
    began = time.monotonic()
    read(Rest(api.url, rows="data.items", paging=PageNumber(), rate=20), reading())
    assert len(api.asked) == 6 and time.monotonic() - began >= 5 / 20


# ---- who asks
@pytest.mark.parametrize(
    ("auth", "secret", "sent"),
    [
        (Bearer("API"), "to ken", lambda asked: asked.headers.get("authorization") == "Bearer to ken"),
        (
            Basic("API"),
            "me:pass:w0rd-x",
            lambda asked: asked.headers.get("authorization") == f"Basic {base64.b64encode(b'me:pass:w0rd-x').decode()}",
        ),
        (ApiKey("API", header="X-Key"), "k+/ey", lambda asked: asked.headers.get("x-key") == "k+/ey"),
        (ApiKey("API", param="key"), "k+/ey", lambda asked: asked.params.get("key") == "k+/ey"),
    ],
)
def test_a_credential_goes_with_each_request_and_is_shown_nowhere(
    serve: Serve, reading: Make, caplog: pytest.LogCaptureFixture, auth: Any, secret: str, sent: Callable[[Asked], bool]
) -> None:
    def answer(asked: Asked) -> Any:
        return (
            by_number(asked)
            if sent(asked)
            else Reply({"you sent": dict(asked.headers) | dict(asked.params)}, status=401)
        )

    api = serve(answer)
    origin = Rest(api.url, rows="data.items", paging=PageNumber(), auth=auth)
    words = secret.rpartition(":")[2]
    with caplog.at_level(logging.DEBUG):
        assert read(origin, reading(API=secret)) == ROWS
        with pytest.raises(
            OriginError, match=r"answers 401 Unauthorized: the credential API \(.*\) is in WATERSHED_ORIGIN_API"
        ) as refused:
            read(origin, reading(API=secret.replace(words, "hidden-wörd+/")))
    assert not isinstance(refused.value, OriginAway)
    api.answer = lambda asked: Reply({"you sent": dict(asked.headers) | dict(asked.params)}, status=400)
    with caplog.at_level(logging.DEBUG), pytest.raises(OriginError, match=r"answers 400.*you sent") as quoted:
        read(origin, reading(API=secret))
    said = caplog.text + str(refused.value) + str(quoted.value) + repr(origin) + str(origin.describe())
    assert "GET /" in caplog.text, "urllib3 does say what it asks for"
    for word in (words, "hidden-w", "k%2B%2Fey"):
        assert word not in said
    with pytest.raises(SettingsError, match="no credential API"):
        read(origin, reading())


def test_a_token_is_had_by_client_credentials_and_anew_when_it_ends(serve: Serve, reading: Make) -> None:
    tokens = [0]

    def answer(asked: Asked) -> Any:
        if asked.path == "/token":
            good = asked.headers["authorization"] == "Basic " + base64.b64encode(b"id:se%20cret").decode()
            if not good or asked.form != {"grant_type": "client_credentials", "scope": "read"}:
                return Reply({"error": "invalid_client"}, status=401)
            tokens[0] += 1
            return {"access_token": f"t{tokens[0]}", "expires_in": 3600}
        known = f"Bearer t{1 + (asked.number > 5)}"  # the first one ends early
        return by_number(asked) if asked.headers.get("authorization") == known else Reply({}, status=401)

    api = serve(answer)
    origin = Rest(
        f"{api.url}/list", rows="data.items", paging=PageNumber(), auth=OAuth("API", f"{api.url}/token", scope="read")
    )
    assert read(origin, reading(API="id:se cret")) == ROWS and tokens == [2]
    with pytest.raises(OriginError, match=r"token answers 401") as refused:
        read(origin, reading(API="id:hidden-word"))
    assert "hidden-word" not in str(refused.value)
    with pytest.raises(OriginError, match="API must be client_id:client_secret, with a colon") as refused:
        read(origin, reading(API="hidden-word"))
    assert "hidden-word" not in str(refused.value)


def test_a_credential_is_sent_to_no_other_host(serve: Serve, reading: Make) -> None:
    other = serve(lambda asked: [])
    redirecting = serve(lambda asked: Reply(status=302, headers={"Location": f"{other.url}/x"}))
    paging = serve(lambda asked: {"items": [{"a": 1}], "next": f"{other.url}/x"})
    for origin in (
        Rest(redirecting.url, auth=Bearer("API")),
        Rest(paging.url, rows="items", paging=NextUrl(), auth=Bearer("API")),
    ):
        with pytest.raises(OriginError, match=r"to another host.*the credential is not sent there"):
            read(origin, reading(API="hidden-word"))
    assert other.asked == []
    assert read(Rest(redirecting.url), reading()) == [] and len(other.asked) == 1
    circle = serve(lambda asked: Reply(status=302, headers={"Location": "/"}))
    with pytest.raises(OriginError, match="redirected more than 5 times"):
        read(Rest(circle.url), reading())


# ---- the declaration
URL = "https://api.example.com/rates"


@pytest.mark.parametrize(
    ("declare", "words"),
    [
        (lambda: Rest("api.example.com"), "url of Rest must be a URL"),
        (lambda: Rest("https://me:hidden-word@x/y"), "holds a user or password"),
        (lambda: Rest(URL, headers={"Authorization": "Bearer hidden-word"}), "hold a secret; name a credential"),
        (lambda: Rest(URL, headers={"a": 1}), "texts by name"),  # type: ignore[dict-item]
        (lambda: Rest(URL, auth="hidden-word"), "auth of Rest is str; allowed are Bearer"),  # type: ignore[arg-type]
        (lambda: Rest(URL, auth=Bearer("hidden-word")), "names a credential"),
        (lambda: Rest(URL, auth=ApiKey("KEY")), "takes a header or a param"),
        (lambda: Rest(URL, paging="page"), r"allowed are PageNumber\(\)"),  # type: ignore[arg-type]
        (lambda: Rest(URL, paging=PageNumber(size=0)), "size of PageNumber is 0"),
        (lambda: Rest(URL, rate=0), "rate of Rest is 0"),
        (lambda: Rest(URL, children=Children(URL)), "names no value of the parent"),
        (lambda: Rest(URL, row="a"), "Rest has no 'row'.*Did you mean 'rows'"),  # type: ignore[call-arg]
        (lambda: OAuth("API", "nowhere"), "token_url of OAuth must be a URL"),
    ],
)
def test_a_wrong_declaration_is_refused_where_it_stands(declare: Callable[[], Any], words: str) -> None:
    with pytest.raises(DefinitionError, match=words) as refused:
        declare()
    assert "hidden-word" not in str(refused.value) and "test_rest" in str(refused.value)


def test_a_declaration_is_a_value() -> None:
    def made() -> Rest:
        below = Children(URL + "/{id}", keep={"of": "id"})
        return Rest(URL, rows="a.b", paging=Offset(size=50), auth=OAuth("API", URL), params={"x": "y"}, children=below)

    origin = made()
    assert isinstance(origin, Origin) and not origin.textual and hash(origin) == hash(made())
    assert pickle.loads(pickle.dumps(origin)) == origin == made() != replace(origin, rate=1)
    assert origin.describe() == {
        "kind": "Rest",
        "url": URL,
        "rows": "a.b",
        "paging": {"kind": "Offset", "size": 50},
        "auth": {"kind": "OAuth", "credential": "API", "token_url": URL},
        "params": {"x": "y"},
        "children": {"kind": "Children", "url": URL + "/{id}", "keep": {"of": "id"}},
    }
