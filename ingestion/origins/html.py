"""Rows of web pages: of a table, or one for each element that a CSS selector finds.

    rows = Σ over the pages of the table's rows, or of the elements        a page without them is an error, never no rows

A page that its site's robots.txt keeps from robots is not read, and none is read faster than `rate`, or than the site asks (Crawl-delay).
What a script makes in the browser is not in a page.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin, urlsplit
from urllib.robotparser import RobotFileParser

from ingestion.objects import in_batches
from ingestion.origin import Part, Reading, Rows
from ingestion.origins.declaring import Declaration, http_url, is_text, need, texts_by_name
from ingestion.origins.html_table import cell_text, records
from ingestion.origins.http import AGENT, Answer, Http, Missing, bare, same_host
from ingestion.retrying import Retrier
from pipeline.base.errors import DefinitionError, OriginError

AN_ATTRIBUTE = re.compile(r"^(?P<css>.*?)@(?P<name>[A-Za-z_:][\w:.-]*)$", re.DOTALL)
META = re.compile(rb"<meta[^>]+charset\s*=\s*[\"']?\s*([\w-]+)", re.IGNORECASE)
MOST_PAGES = 10_000


@dataclass(frozen=True)
class _Pages(Declaration):
    """A page, and those that follow it."""

    url: str
    next: str | None = None
    rate: float = 1.0

    def _check(self) -> None:
        name = type(self).__name__
        http_url(self.url, f"url of {name}")
        if isinstance(self.rate, bool) or not isinstance(self.rate, int | float) or not self.rate > 0:
            raise DefinitionError(f"rate of {name} is {self.rate!r}; it must be pages a second, more than 0")
        if self.next is not None:
            is_text(self.next, f"next of {name}", "a.next@href")
            _check_selector(_split(self.next)[0], f"next of {name}")

    @property
    def textual(self) -> bool:
        """True: what stands on a page is text."""
        return True

    def parts(self, reading: Reading) -> Sequence[Part]:
        """One part; nothing is asked yet. See Origin.parts."""
        return [Part(self.url)]

    def read(self, part: Part, reading: Reading) -> Iterator[Rows]:
        """The rows, page by page; each request is retried by itself. See Origin.read."""
        need("selectolax", "an origin of web pages")
        robots, rate = _robots(self.url, reading), self.rate
        if robots is not None and (delay := robots.crawl_delay(AGENT)):
            rate = min(rate, 1 / float(delay))
        with Http(
            self.url, Retrier(reading.report, count=reading.retried), headers={"Accept": "text/html"}, rate=rate
        ) as http:
            yield from in_batches(self._items(http, robots, reading), limit=reading.limit)

    def _items(self, http: Http, robots: RobotFileParser | None, reading: Reading) -> Iterator[Any]:
        url: str | None = self.url
        seen: set[str] = set()
        while url is not None:
            if url in seen:
                raise OriginError(
                    f"{bare(url)} follows itself: its pages go round in a circle; is next={self.next!r} right?"
                )
            seen.add(url)
            if len(seen) > MOST_PAGES:
                raise OriginError(f"{self.url} has more than {MOST_PAGES} pages")
            if robots is not None and not robots.can_fetch(AGENT, url):
                raise OriginError(
                    f"the site's robots.txt keeps robots from {bare(url)}: ask its owner for another way to the data"
                )
            found = http.get(url, lambda answer: answer)
            tree = _tree(found, reading)
            yield from self._rows(tree, bare(url), reading)
            url = self._following(tree, found.url)

    def _following(self, tree: Any, url: str) -> str | None:
        if self.next is None:
            return None
        css, attribute = _split(self.next)
        link = tree.css_first(css)
        target = None if link is None else link.attributes.get(attribute or "href")
        if not target:
            return None
        following: str = urljoin(url, target).partition("#")[0]
        if not same_host(following, self.url):
            raise OriginError(
                f"{bare(url)} is followed by a page of another host, {bare(following)}: declare it as an origin of its own"
            )
        return following

    @abstractmethod
    def _rows(self, tree: Any, url: str, reading: Reading) -> Iterator[Any]:
        """The rows of one page, as mappings or Lost."""


@dataclass(frozen=True)
class HtmlTable(_Pages):
    """The table that the CSS selector `table` finds, alone; its header names the columns, and merged cells stand in each of their places.

    `next` is the link to the next page ("a.next"). An empty cell is null. The usual mistake: a selector that finds several tables.
    """

    table: str = "table"

    def __post_init__(self) -> None:
        self._check()
        is_text(self.table, "table of HtmlTable", "table#rates")
        _check_selector(self.table, "table of HtmlTable")

    def _rows(self, tree: Any, url: str, reading: Reading) -> Iterator[Any]:
        found = tree.css(self.table)
        if len(found) != 1 or found[0].tag != "table":
            there = tree.css("table")
            listed = (
                f"; its tables are {', '.join(map(_shown, there[:10]))}"
                if there
                else ", and no table at all: is it made by a script?"
            )
            many = f"{len(found)} elements" if len(found) != 1 else f"<{found[0].tag}>, no table,"
            raise OriginError(f"{url} has {many} at {self.table!r}, where one table is wanted{listed}")
        yield from records(found[0], url, reading.report)


@dataclass(frozen=True)
class HtmlRows(_Pages):
    """A row for each element that `each` finds; a column is the text of the first element that its selector finds there.

    "css@name" is an attribute of it, "@name" one of the element itself, "" its own text; an element that lacks it has null.
    """

    each: str = ""
    columns: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        self._check()
        is_text(self.each, "each of HtmlRows", "li.product")
        _check_selector(self.each, "each of HtmlRows")
        texts_by_name(self.columns, "columns of HtmlRows", {"name": "h2", "link": "a@href"})
        if not self.columns:
            raise DefinitionError("columns of HtmlRows is empty; write {'name': 'h2', 'link': 'a@href'}")
        for name, selector in self.columns.items():
            _check_selector(_split(selector)[0], f"column {name!r} of HtmlRows")

    def _rows(self, tree: Any, url: str, reading: Reading) -> Iterator[Any]:
        elements = tree.css(self.each)
        if not elements:
            raise OriginError(f"{url} has nothing at {self.each!r}: has the page changed, or is it made by a script?")
        found = set[str]()
        for element in elements:
            row = {name: _value(element, selector) for name, selector in self.columns.items()}
            found |= {name for name, value in row.items() if value is not None}
            yield row
        missing = [name for name in self.columns if name not in found]
        if missing:
            raise OriginError(
                f"{url}: column {missing[0]!r} ({self.columns[missing[0]]!r}) is in none of the {len(elements)} elements at {self.each!r}"
            )


def _robots(url: str, reading: Reading) -> RobotFileParser | None:
    """The site's rules; None where it has none (any 4xx). OriginAway where they cannot be had: then nothing is allowed (RFC 9309)."""
    parts = urlsplit(url)
    place = f"{parts.scheme}://{parts.netloc}/robots.txt"
    parser = RobotFileParser(place)
    with Http(place, Retrier(reading.report, count=reading.retried)) as http:
        try:
            text = http.get(place, lambda answer: answer.body.decode("utf-8", "replace"))
        except Missing:
            return None
        except OriginError as error:
            if re.search(r" answers 4\d\d", error.text) and not re.search(" answers 4(08|25|29)", error.text):
                return None
            raise
    parser.parse(text.splitlines())
    return parser


def _tree(answer: Answer, reading: Reading) -> Any:
    """The page, parsed; its encoding as the header, the mark at its beginning, or its own meta say, else UTF-8."""
    from selectolax.lexbor import LexborHTMLParser

    declared = re.search(r"charset\s*=\s*[\"']?([\w-]+)", answer.headers.get("content-type", ""))
    meta = META.search(answer.body[:4096])
    named = (
        "utf-8-sig"
        if answer.body.startswith(b"\xef\xbb\xbf")
        else declared[1]
        if declared
        else meta[1].decode()
        if meta
        else "utf-8"
    )
    try:
        text = answer.body.decode(named)
    except (UnicodeDecodeError, LookupError):
        reading.report(
            f"{bare(answer.url)} is not in the encoding {named}, which it has by its own words; it is read as windows-1252"
        )
        text = answer.body.decode("windows-1252", "replace")
    tree = LexborHTMLParser(text)
    tree.strip_tags(["script", "style", "template"])
    return tree


def _value(element: Any, selector: str) -> str | None:
    css, attribute = _split(selector)
    node = element.css_first(css) if css else element
    if node is None:
        return None
    if attribute is None:
        return cell_text(node)
    found: str | None = node.attributes.get(attribute)
    return found


def _split(selector: str) -> tuple[str, str | None]:
    """CSS and attribute of "css@attribute"; an @ within the CSS is left."""
    found = AN_ATTRIBUTE.match(selector)
    return (found["css"].strip(), found["name"]) if found else (selector.strip(), None)


def _check_selector(css: str, name: str) -> None:
    """DefinitionError where it is no CSS selector; nothing without the library, which is looked for when a page is read."""
    try:
        from selectolax.lexbor import LexborHTMLParser, SelectolaxError
    except ImportError:
        return
    try:
        if css:
            LexborHTMLParser("<p>").css(css)
    except SelectolaxError:
        raise DefinitionError(
            f"{name} is {css!r}, which is no CSS selector; one is 'table#rates' or 'li.product > h2'"
        ) from None


def _shown(table: Any) -> str:
    """A selector of a table, as far as it has an id or a class."""
    names = table.attributes
    if names.get("id"):
        return f"table#{names['id']}"
    classes = (names.get("class") or "").split()
    return "table" + "".join(f".{one}" for one in classes[:2])
