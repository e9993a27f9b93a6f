"""A small schema registry, for tests and trials on one machine: Confluent's calls that Watershed makes, and one to register.

    GET /schemas/ids/{id}        GET /subjects/{subject}/versions/{version}        POST /subjects/{subject}/versions

It is no registry for production: schemas are in memory, and no compatibility is checked. A schema that is registered twice keeps its id.
"""

import base64
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

JSON = "application/vnd.schemaregistry.v1+json"


@dataclass
class _Held:
    """Documents by id, and ids by subject and version (from 1 on)."""

    documents: dict[int, dict[str, Any]] = field(default_factory=dict)
    subjects: dict[str, list[int]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def register(self, subject: str, document: dict[str, Any]) -> int:
        """The id of a schema, which is given out now if it is new."""
        with self.lock:
            id = next((id for id, held in self.documents.items() if held == document), len(self.documents) + 1)
            self.documents[id] = document
            versions = self.subjects.setdefault(subject, [])
            if id not in versions:
                versions.append(id)
            return id


class SchemaRegistry:
    """A registry on a port of loopback; what it holds outlives stop(), so that start() brings it back as it was.

    `user` and `password`, where given, are asked of everybody.
    """

    def __init__(self, port: int = 0, user: str = "", password: str = "") -> None:
        self._held, self._port = _Held(), port
        given = base64.b64encode(f"{user}:{password}".encode()).decode()
        self._authorization = f"Basic {given}" if user else ""
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        """The URL, also while it is stopped."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Answer from now on."""
        handler = type("Handler", (_Handler,), {"held": self._held, "authorization": self._authorization})
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), handler)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, name="schema registry", daemon=True).start()

    def stop(self) -> None:
        """Answer no more."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def register(
        self, subject: str, schema: str, kind: str = "AVRO", references: tuple[Mapping[str, Any], ...] = ()
    ) -> int:
        """Register a schema by HTTP, as a serializer does; its id."""
        body = json.dumps({"schema": schema, "schemaType": kind, "references": list(references)}).encode()
        headers = {"Content-Type": JSON, "Authorization": self._authorization}
        with urlopen(Request(f"{self.url}/subjects/{subject}/versions", body, headers)) as answer:
            return int(json.load(answer)["id"])

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class _Handler(BaseHTTPRequestHandler):
    held: _Held
    authorization: str

    def do_GET(self) -> None:
        """Answer a read call."""
        match self._path():
            case None:
                return
            case ["schemas", "ids", id] if id.isdigit() and int(id) in self.held.documents:
                self._say(200, self._document(int(id)))
            case ["schemas", "ids", _]:
                self._say(404, {"error_code": 40403, "message": "Schema not found"})
            case ["subjects", subject, "versions", version]:
                ids = self.held.subjects.get(subject, [])
                if version.isdigit() and 1 <= int(version) <= len(ids):
                    found = ids[int(version) - 1]
                    self._say(200, {"subject": subject, "version": int(version), "id": found} | self._document(found))
                else:
                    self._say(404, {"error_code": 40402, "message": "Version not found"})
            case _:
                self._say(404, {"error_code": 404, "message": "HTTP 404 Not Found"})

    def do_POST(self) -> None:
        """Register a schema."""
        match self._path():
            case None:
                return
            case ["subjects", subject, "versions"]:
                given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                kind, references = given.get("schemaType") or "AVRO", given.get("references") or []
                document = {"schema": given["schema"], "schemaType": kind, "references": references}
                self._say(200, {"id": self.held.register(subject, document)})
            case _:
                self._say(404, {"error_code": 404, "message": "HTTP 404 Not Found"})

    def _path(self) -> list[str] | None:
        """The parts of the path; None for a user who is refused, and told so."""
        if self.authorization and self.headers.get("Authorization") != self.authorization:
            self._say(401, {"error_code": 401, "message": "Unauthorized"})
            return None
        return [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]

    def _document(self, id: int) -> dict[str, Any]:
        """The document that is registered, as Confluent's says it: Avro is not named."""
        return {name: value for name, value in self.held.documents[id].items() if value and value != "AVRO"}

    def _say(self, status: int, document: Mapping[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", JSON)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a test's output is its own."""
