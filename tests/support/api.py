"""A web server of the tests, on 127.0.0.1: what it answers is a function, and it can break off, be slow, and count."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

ROWS = [{"id": n, "name": f"row {n}"} for n in range(23)]


@dataclass(frozen=True)
class Asked:
    """A request: its number from 1, path, parameters, headers (names in lower case), and the form that it sends."""

    number: int
    path: str
    params: Mapping[str, str]
    headers: Mapping[str, str]
    form: Mapping[str, str]


@dataclass
class Reply:
    """An answer; `cut` sends so many bytes of it and closes, with a Content-Length of all where `counted`."""

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None
    counted: bool = True
    chunks: Iterator[bytes] | None = None  # instead of a body, for what has no end


class Api:
    """`answer(asked)` gives a Reply, or a value that is sent as JSON. `asked` is the list of requests; `url` has no slash at its end."""

    def __init__(self, answer: Callable[[Asked], Any]) -> None:
        self.answer, self.asked = answer, list[Asked]()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self) -> str:
        """http://127.0.0.1:<port>"""
        return f"http://127.0.0.1:{self._server.server_port}"

    def take(self, path: str, headers: Mapping[str, str], form: str) -> Asked:
        """The request, noted."""
        parts = urlsplit(path)
        with self._lock:
            params, given = dict(parse_qsl(parts.query)), dict(parse_qsl(form))
            self.asked.append(Asked(len(self.asked) + 1, parts.path, params, headers, given))
            return self.asked[-1]

    def __enter__(self) -> Api:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def pages(rows: Sequence[Any], size: int, number: int) -> list[Any]:
    """The page of that number, from 0."""
    return list(rows[number * size : (number + 1) * size])


def by_number(asked: Asked) -> Any:
    """Answer of an API that has ROWS in pages of five, by their number from 1."""
    return {"data": {"items": pages(ROWS, 5, int(asked.params["page"]) - 1)}, "meta": {"total": len(ROWS)}}


def _handler(api: Api) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            headers = {name.lower(): value for name, value in self.headers.items()}
            found = api.answer(api.take(self.path, headers, self.rfile.read(length).decode()))
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self._send(found if isinstance(found, Reply) else Reply(found))

        do_POST = do_HEAD = do_GET

        def _send(self, reply: Reply) -> None:
            body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            self.send_response(reply.status)
            for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                self.send_header(name, value)
            if reply.counted and reply.chunks is None:
                self.send_header("Content-Length", str(len(body)))
            else:
                self.send_header("Connection", "close")
            self.end_headers()
            for chunk in (reply.chunks or [body[: reply.cut]]) if self.command != "HEAD" else ():
                self.wfile.write(chunk)
            if reply.cut is not None or reply.chunks is not None or not reply.counted:
                self.close_connection = True

        def log_message(self, format: str, *arguments: Any) -> None:
            """Nothing: the tests look at `asked`."""

    return Handler
