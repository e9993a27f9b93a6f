"""Requests over HTTP for origins: bounded in size and time, no faster than asked, again where that is worth it.

    an answer = status 200 to 299, whole, at most `most_bytes` of it, within DEADLINE_S        everything else is OriginAway or OriginError

Credentials go to the declared host and to no other, by no redirect, and are in no message and no log (urllib3 logs whole URLs at DEBUG).
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote, quote_plus, urljoin, urlsplit

from ingestion.origins.declaring import need
from ingestion.retrying import Retrier
from pipeline.base.errors import OriginAway, OriginError

if TYPE_CHECKING:
    import requests

T = TypeVar("T")
CONNECT_S, SILENCE_S = 10.0, 60.0
DEADLINE_S = 600.0  # of one request: a server that sends a byte a minute is away too
MOST_BYTES = 64 * 1024 * 1024
REDIRECTS = 5
AGAIN = {408, 425, 429, 500, 502, 503, 504}
CHUNK = 256 * 1024
AGENT = "watershed"


@dataclass(frozen=True)
class Answer:
    """An answer: where it came from after redirects, its headers (names in lower case), and its bytes."""

    url: str
    headers: Mapping[str, str]
    body: bytes
    status: int
    links: Mapping[str, str]  # relation -> URL, of the header Link
    encoding: str | None = None


@dataclass(frozen=True)
class Signed:
    """A request's own headers and parameters, which hold secrets."""

    headers: Mapping[str, str]
    params: Mapping[str, str]
    secrets: tuple[str, ...] = ()


class Http:
    """A client for one origin at `home`; use it in a `with` block.

    `rate`: requests a second at most. `retrier` decides how often an unanswered request is made again, and counts.
    """

    def __init__(
        self,
        home: str,
        retrier: Retrier,
        *,
        headers: Mapping[str, str] | None = None,
        rate: float | None = None,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        library = need("requests", "an origin over HTTP")
        self._home, self._retrier, self._headers = home, retrier, {"User-Agent": AGENT, **(headers or {})}
        self._sign: Callable[[bool], Signed] | None = None
        self._whose, self._most_bytes = "", most_bytes
        self._gap_s, self._next_s = (1.0 / rate if rate else 0.0), 0.0
        self._errors = library.exceptions
        self._session: requests.Session = library.Session()
        self._session.auth = lambda request: request  # else ~/.netrc would be looked into

    def __enter__(self) -> Http:
        return self

    def __exit__(self, *error: object) -> None:
        self._session.close()

    def get(
        self, url: str, take: Callable[[Answer], T], params: Mapping[str, str] | None = None, *, shown: str = ""
    ) -> T:
        """The answer to a GET, as `take` takes it, which may find that it is to be asked again; `shown` is the request in messages."""
        return self._retrier(lambda: take(self._signed(url, params or {}, shown or bare(url))))

    def sign_with(self, sign: Callable[[bool], Signed], whose: str) -> None:
        """From here on each request goes to home alone, with what `sign` gives; `whose` says in a refusal which setting to look at."""
        self._sign, self._whose = sign, whose

    def post(self, url: str, form: Mapping[str, str], headers: Mapping[str, str], secrets: tuple[str, ...]) -> Answer:
        """The answer to a form that is sent unsigned, with headers of its own, once: for a token, within the retries of a get."""
        return self._once("POST", url, {}, headers, bare(url), form=form, secrets=secrets)

    def _signed(self, url: str, params: Mapping[str, str], shown: str) -> Answer:
        if self._sign is None:
            return self._once("GET", url, params, {}, shown)
        if not same_host(url, self._home):
            raise OriginError(_elsewhere(f"{shown} leads", bare(self._home)))
        for anew in (False, True):
            signed = self._sign(anew)
            try:
                return self._once(
                    "GET", url, {**params, **signed.params}, signed.headers, shown, secrets=signed.secrets
                )
            except _Unauthorized as error:
                if anew or not getattr(self._sign, "renews", False):
                    raise OriginError(str(error)) from None
        raise AssertionError("the second try returned or raised")

    def _once(
        self,
        method: str,
        url: str,
        params: Mapping[str, str],
        headers: Mapping[str, str],
        shown: str,
        *,
        form: Mapping[str, str] | None = None,
        secrets: tuple[str, ...] = (),
    ) -> Answer:
        self._pace()
        home, ends, given = url, time.monotonic() + DEADLINE_S, {**self._headers, **headers}
        with _hidden(secrets), self._explained(shown):
            for _ in range(REDIRECTS + 1):
                response = self._session.request(
                    method,
                    url,
                    params=params,
                    data=form,
                    headers=given,
                    stream=True,
                    timeout=(CONNECT_S, SILENCE_S),
                    allow_redirects=False,
                )
                with response:
                    if not response.is_redirect:
                        return self._answer(response, ends, shown, secrets)
                    url, params = urljoin(url, response.headers["location"]), {}
                if secrets and not same_host(url, home):
                    raise OriginError(_elsewhere(f"{shown} is redirected", bare(home)))
        raise OriginError(f"{shown} is redirected more than {REDIRECTS} times")

    def _answer(self, response: requests.Response, ends: float, shown: str, secrets: tuple[str, ...]) -> Answer:
        if not response.ok:
            self._refuse(response, shown, secrets)
        links = {name: link["url"] for name, link in response.links.items() if "url" in link}
        headers = {name.lower(): value for name, value in response.headers.items()}
        body = self._body(response, ends, shown)
        return Answer(response.url, headers, body, response.status_code, links, response.encoding)

    def _body(self, response: requests.Response, ends: float, shown: str) -> bytes:
        pieces, size = [], 0
        for piece in response.iter_content(CHUNK):
            pieces.append(piece)
            size += len(piece)
            if size > self._most_bytes:
                raise OriginError(f"{shown} answers with more than {self._most_bytes:,} bytes: ask for smaller pages")
            if time.monotonic() > ends:
                raise OriginAway(f"{shown} has not answered whole within {DEADLINE_S:.0f} s")
        return b"".join(pieces)

    def _refuse(self, response: requests.Response, shown: str, secrets: tuple[str, ...]) -> None:
        status = f"{response.status_code} {response.reason or ''}".strip()
        after = response.headers.get("retry-after")
        if response.status_code in AGAIN or (response.status_code == 403 and after is not None):
            away = OriginAway(f"{shown} answers {status}")
            away.retry_after_s = retry_after_s(after)
            raise away
        said = f"{shown} answers {status}"
        if response.status_code in (401, 403):  # without the answer's words: they may quote what was sent
            raise _Unauthorized(
                f"{said}: {self._whose or 'it wants a credential: name one by auth=Bearer(...), Basic, ApiKey or OAuth'}"
            )
        begins = hide(next(response.iter_content(2000), b"").decode("utf-8", "replace"), secrets)
        said = f"{said}: {' '.join(begins.split())[:200]}".rstrip(": ")
        raise Missing(said) if response.status_code in (404, 410) else OriginError(said)

    def _pace(self) -> None:
        now = time.monotonic()
        if self._next_s > now:
            time.sleep(self._next_s - now)
        self._next_s = max(now, self._next_s) + self._gap_s

    @contextmanager
    def _explained(self, shown: str) -> Iterator[None]:
        """The library's errors in words without the URL, which may hold a key."""
        try:
            yield
        except (self._errors.SSLError, self._errors.InvalidSchema, self._errors.InvalidURL) as error:
            raise OriginError(f"{shown} cannot be asked: {type(error).__name__}") from None
        except self._errors.Timeout:
            raise OriginAway(f"{shown} does not answer in time") from None
        except (self._errors.ConnectionError, self._errors.ChunkedEncodingError) as error:
            broke = isinstance(error, self._errors.ChunkedEncodingError) or "IncompleteRead" in str(error)
            raise OriginAway(f"{shown} {'breaks off in the middle' if broke else 'cannot be reached'}") from None
        except self._errors.ContentDecodingError:
            raise OriginAway(f"{shown} answers with bytes that are not compressed as it says") from None
        except self._errors.RequestException as error:
            raise OriginError(f"{shown} cannot be asked: {type(error).__name__}") from None


class _Unauthorized(OriginError):
    """401 or 403: a token may have run out."""


class Missing(OriginError):
    """404 or 410: there is no such thing, or no longer."""


def _elsewhere(what: str, home: str) -> str:
    return f"{what} to another host than {home}: the credential is not sent there"


def bare(url: str) -> str:
    """The URL without query, fragment and user, for messages."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def same_host(url: str, home: str) -> bool:
    """True when both are of one scheme, host and port, so that what one may know the other may."""
    a, b = urlsplit(url), urlsplit(home)
    ports = {"http": 80, "https": 443}
    return (a.scheme, a.hostname, a.port or ports.get(a.scheme)) == (
        b.scheme,
        b.hostname,
        b.port or ports.get(b.scheme),
    )


def retry_after_s(header: str | None) -> float:
    """Seconds of a Retry-After, which is a number or a date; 0 where it is neither, or in the past."""
    if header is None:
        return 0.0
    try:
        return max(0.0, float(header))
    except ValueError:
        pass_at = _date(header)
    return 0.0 if pass_at is None else max(0.0, (pass_at - datetime.now(UTC)).total_seconds())


def _date(header: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(header)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def hide(text: str, secrets: tuple[str, ...]) -> str:
    """The text with *** for each of the secrets, as it is and as a URL has it."""
    for secret in filter(None, secrets):
        for form in (secret, quote(secret, safe=""), quote(secret), quote_plus(secret), json.dumps(secret)[1:-1]):
            text = text.replace(form, "***")
    return text


class _Hiding(logging.Filter):
    def __init__(self, secrets: tuple[str, ...]) -> None:
        super().__init__()
        self._secrets = secrets

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = hide(record.getMessage(), self._secrets), ()
        return True


@contextmanager
def _hidden(secrets: tuple[str, ...]) -> Iterator[None]:
    """Meanwhile urllib3's messages show *** for the secrets."""
    hiding, logger = _Hiding(secrets), logging.getLogger("urllib3.connectionpool")
    logger.addFilter(hiding)
    try:
        yield
    finally:
        logger.removeFilter(hiding)
