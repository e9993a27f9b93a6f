"""Web pages as origins, over real sockets: tables as they look, elements by selector, and the site's rules kept."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ingestion.origin import Origin, Part, Reading
from ingestion.origins.html import HtmlRows, HtmlTable
from pipeline.base.errors import DefinitionError, OriginAway, OriginError
from tests.support.api import Api, Asked, Reply
from tests.support.databases import read

Make = Callable[..., Reading]
Serve = Callable[[Callable[[Asked], Any]], Api]
pytestmark = pytest.mark.usefixtures("waits")
FAST = 1000.0


def page(
    html: str | bytes, robots: str | None = None, kind: str = "text/html; charset=utf-8"
) -> Callable[[Asked], Any]:
    def answer(asked: Asked) -> Reply:
        if asked.path == "/robots.txt":
            return (
                Reply(status=404) if robots is None else Reply(robots.encode(), headers={"Content-Type": "text/plain"})
            )
        return Reply(html if isinstance(html, bytes) else html.encode(), headers={"Content-Type": kind})

    return answer


RATES = """<!doctype html><table class="nav x"><tr><td>menu</table>
<table id=rates><caption>Rates</caption>
<thead><tr><th rowspan=2>Currency<th colspan=2>Rate<th></tr><tr><th>buy<br>now<th>sell<th> </tr></thead>
<tbody><tr><td>CHF<td>0.<b>93</b><td>0.95<td>
<table><tr><td>inner</table></tr>
<tr><td rowspan=2>USD &amp; co<td colspan=2>1.08<td>x<script>var no;</script></tr><tr><td>1.07<td>1.09<td></tr>
<tr><td>JPY<td>160</tr><tr><td>GBP<td>1<td>2<td>3<td>4</tr></tbody>
<tfoot><tr><td colspan=4>All without warranty</tfoot></table>"""


def test_a_table_is_read_as_it_looks_and_ragged_rows_are_broken_at_their_place(serve: Serve, reading: Make) -> None:
    api, said = serve(page(RATES)), list[str]()
    (rows,) = HtmlTable(f"{api.url}/x", table="#rates", rate=FAST).read(Part("x"), reading(said))
    names = ["Currency", "Rate buy now", "Rate sell", "column_4"]
    assert rows.batch.schema.names == names
    assert [list(row.values()) for row in rows.batch.to_pylist()] == [
        ["CHF", "0.93", "0.95", "inner"],
        ["USD & co", "1.08", "1.08", "x"],
        ["USD & co", "1.07", "1.09", None],
    ]
    assert rows.numbers.tolist() == [1, 2, 3]
    assert [(b.number, b.reason, b.raw) for b in rows.broken] == [
        (4, "has 2 cells, where the header has 4", b"JPY | 160"),
        (5, "has 5 cells, where the header has 4", b"GBP | 1 | 2 | 3 | 4"),
    ]
    assert said == [f"the table on {api.url}/x has a foot of 1 rows, which is left out"]


@pytest.mark.parametrize(
    ("html", "table", "words"),
    [
        (
            RATES,
            "table",
            r"has 3 elements at 'table', where one table is wanted; its tables are table\.nav\.x, table#rates",
        ),
        (RATES, "#none", "has 0 elements at '#none'"),
        (RATES, "caption", "has <caption>, no table, at 'caption'"),
        ("<p>Please turn on JavaScript", "table", "and no table at all: is it made by a script"),
        ("<table></table>", "table", "has no row"),
        ("<table><tr>" + "<td colspan=1000>" * 11 + "</table>", "table", "more than 10000 columns"),
        (b'{"a": 1}', "table", "no table at all"),
    ],
)
def test_a_page_without_the_table_is_an_error_that_says_what_is_there(
    serve: Serve, reading: Make, html: Any, table: str, words: str
) -> None:
    with pytest.raises(OriginError, match=words) as refused:
        read(HtmlTable(serve(page(html)).url, table=table, rate=FAST), reading())
    assert not isinstance(refused.value, OriginAway)


def test_columns_of_one_name_or_none_get_names_of_their_own(serve: Serve, reading: Make) -> None:
    api = serve(page("<table><tr><th>a<th>a<th><th>a_2</tr><tr><td>1<td>2<td>3<td>4</table>"))
    assert read(HtmlTable(api.url, rate=FAST), reading()) == [{"a": "1", "a_2": "2", "column_3": "3", "a_2_2": "4"}]


SHOP = """<ul>{items}</ul><a class=next href="{next}">more</a>"""
ITEM = '<li class=p data-id={n}><h2>Item <b>{n}</b></h2><a href="/i/{n}@x">see</a>{price}</li>'


def shop(asked: Asked) -> Reply:
    if asked.path == "/robots.txt":
        return Reply(status=404)
    number = int(asked.params.get("p", 1))
    items = "".join(
        ITEM.format(n=n, price=f"<i>{n}.50</i>" if n % 2 else "") for n in range(number * 2 - 1, number * 2 + 1)
    )
    return Reply(SHOP.format(items=items, next=f"?p={number + 1}" if number < 3 else "").encode())


COLUMNS = {"id": "@data-id", "name": "h2", "link": "a[href*='@']@href", "price": "i", "all": ""}


def test_elements_of_all_pages_are_rows_with_texts_and_attributes(serve: Serve, reading: Make) -> None:
    api = serve(shop)
    found = read(HtmlRows(f"{api.url}/list", each="li.p", columns=COLUMNS, next="a.next@href", rate=FAST), reading())
    assert found[0] == {"id": "1", "name": "Item 1", "link": "/i/1@x", "price": "1.50", "all": "Item 1see1.50"}
    assert [row["id"] for row in found] == list("123456") and [row["price"] for row in found][1::2] == [None] * 3
    assert (
        len(
            read(
                HtmlRows(f"{api.url}/list", each="li.p", columns=COLUMNS, next="a.next", rate=FAST),
                replace(reading(), limit=3),
            )
        )
        == 3
    )


def test_a_page_without_the_elements_or_a_column_in_none_of_them_is_an_error(serve: Serve, reading: Make) -> None:
    api = serve(shop)
    with pytest.raises(OriginError, match=r"has nothing at 'li\.q'"):
        read(HtmlRows(api.url, each="li.q", columns={"a": "h2"}, rate=FAST), reading())
    with pytest.raises(OriginError, match=r"column 'b' \('h3'\) is in none of the 2 elements at 'li\.p'"):
        read(HtmlRows(api.url, each="li.p", columns={"a": "h2", "b": "h3"}, rate=FAST), reading())
    round_ = serve(page("<ul><li>a</ul><a class=next href='?p=1'>"))
    with pytest.raises(OriginError, match="go round in a circle"):
        read(HtmlRows(round_.url, each="li", columns={"a": ""}, next="a.next", rate=FAST), reading())
    away = serve(page("<ul><li>a</ul><a class=next href='http://127.0.0.1:1/x'>"))
    with pytest.raises(OriginError, match="page of another host"):
        read(HtmlRows(away.url, each="li", columns={"a": ""}, next="a.next", rate=FAST), reading())


def test_robots_txt_is_honoured(serve: Serve, reading: Make) -> None:
    table = "<table><tr><th>a</tr><tr><td>1</table>"
    rules = "User-agent: watershed\nDisallow: /private\n\nUser-agent: *\nDisallow: /\n"
    api = serve(page(table, rules))
    assert read(HtmlTable(f"{api.url}/public", rate=FAST), reading()) == [{"a": "1"}]
    with pytest.raises(OriginError, match=r"robots\.txt keeps robots from .*/private/x"):
        read(HtmlTable(f"{api.url}/private/x", rate=FAST), reading())
    assert [one.path for one in api.asked] == ["/robots.txt", "/public", "/robots.txt"]
    assert api.asked[1].headers["user-agent"] == "watershed"
    for status, allowed in ((403, True), (401, True), (500, False)):
        api.answer = lambda asked, s=status: Reply(status=s) if asked.path == "/robots.txt" else page(table)(asked)  # type: ignore[misc]
        if allowed:
            assert read(HtmlTable(api.url, rate=FAST), reading()) == [{"a": "1"}]
        else:
            with pytest.raises(OriginAway, match=r"robots\.txt answers 500"):
                read(HtmlTable(api.url, rate=FAST), reading())


def test_pages_are_read_no_faster_than_declared_or_than_the_site_asks(serve: Serve, reading: Make) -> None:
    def slowly(asked: Asked) -> Reply:
        return Reply(b"User-agent: *\nCrawl-delay: 1\n") if asked.path == "/robots.txt" else shop(asked)

    for answer, rate, least_s in ((shop, 20.0, 0.1), (slowly, FAST, 2.0)):
        began = time.monotonic()
        read(HtmlRows(serve(answer).url, each="li.p", columns={"a": "h2"}, next="a.next", rate=rate), reading())
        assert time.monotonic() - began >= least_s


@pytest.mark.parametrize(
    ("html", "kind", "found"),
    [
        ("<table><tr><th>ä</tr><tr><td>€</table>".encode(), "text/html", {"ä": "€"}),
        (
            "<meta charset='iso-8859-15'><table><tr><th>ä</tr><tr><td>€</table>".encode("iso-8859-15"),
            "text/html",
            {"ä": "€"},
        ),
        ("<table><tr><th>ä</tr><tr><td>я</table>".encode("utf-16"), "text/html; charset=utf-16", {"ä": "я"}),
        ("<table><tr><th>ä</tr><tr><td>€</table>".encode("windows-1252"), "text/html", {"ä": "€"}),
        ("\ufeff<table><tr><th>ä</tr><tr><td>€</table>".encode(), "text/html; charset=latin-1", {"ä": "€"}),
    ],
)
def test_a_page_is_read_in_its_encoding(
    serve: Serve, reading: Make, html: bytes, kind: str, found: dict[str, str]
) -> None:
    assert read(HtmlTable(serve(page(html, kind=kind)).url, rate=FAST), reading()) == [found]


@pytest.mark.parametrize(
    ("declare", "words"),
    [
        (lambda: HtmlTable("nowhere"), "url of HtmlTable must be a URL"),
        (lambda: HtmlTable("http://x/", table="a[["), "no CSS selector"),
        (lambda: HtmlTable("http://x/", rate=0), "rate of HtmlTable is 0"),
        (lambda: HtmlRows("http://x/", each="li"), "columns of HtmlRows is empty"),
        (lambda: HtmlRows("http://x/", columns={"a": "b"}), "each of HtmlRows is ''"),
        (lambda: HtmlRows("http://x/", each="li", columns={"a": ">>"}), "column 'a' of HtmlRows is '>>'"),
        (lambda: HtmlRows("http://x/", each="li", colums={"a": "b"}), "Did you mean 'columns'"),  # type: ignore[call-arg]
    ],
)
def test_a_wrong_declaration_is_refused_where_it_stands(declare: Callable[[], Any], words: str) -> None:
    with pytest.raises(DefinitionError, match=words) as refused:
        declare()
    assert "test_html" in str(refused.value)


def test_a_declaration_is_a_value() -> None:
    origins = [HtmlTable("http://x/", table="#a"), HtmlRows("http://x/", each="li", columns={"a": "b@c"})]
    for origin in origins:
        assert isinstance(origin, Origin) and origin.textual
        assert pickle.loads(pickle.dumps(origin)) == origin and hash(origin) == hash(replace(origin))
    assert origins[0].describe() == {"kind": "HtmlTable", "url": "http://x/", "table": "#a"}
    assert origins[1].describe() == {"kind": "HtmlRows", "url": "http://x/", "each": "li", "columns": {"a": "b@c"}}
