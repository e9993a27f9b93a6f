"""A registry over HTTP: an id is unknown only where the registry says so itself."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pydantic import SecretStr

from pipeline.base.errors import SettingsError
from pipeline.decode.registry import Registry, RegistryAway
from pipeline.decode.schemas import Schema
from sandbox.schema_registry import SchemaRegistry


@pytest.fixture
def server() -> Iterator[SchemaRegistry]:
    with SchemaRegistry() as made:
        yield made


def test_a_schema_comes_with_what_it_refers_to_each_behind_what_that_uses(server: SchemaRegistry) -> None:
    assert server.register("c", '"long"') == 1
    second = server.register("b", '"int"', "JSON", ({"name": "c.avsc", "subject": "c", "version": 1},))
    both = ({"name": "b.avsc", "subject": "b", "version": 1}, {"name": "c again", "subject": "c", "version": 1})
    third = server.register("a", '"string"', "PROTOBUF", both)
    registry = Registry(server.url + "/")
    assert registry.schema(1) == Schema("AVRO", '"long"')
    assert registry.schema(second) == Schema("JSON", '"int"', (("c.avsc", '"long"'),))
    assert registry.schema(third) == Schema("PROTOBUF", '"string"', (("c.avsc", '"long"'), ("b.avsc", '"int"')))
    assert registry.schema(77) is None
    assert server.register("other", '"long"') == 1, "a schema keeps its id"


def test_a_registry_that_is_away_is_not_one_that_does_not_know(server: SchemaRegistry) -> None:
    registry = Registry(server.url, timeout_s=1)
    server.stop()
    with pytest.raises(RegistryAway, match=r"the schema registry at http://127.0.0.1:\d+ is away: .*refused"):
        registry.schema(1)
    server.start()
    assert registry.schema(1) is None


def test_an_id_that_no_registry_gives_out_is_unknown_without_a_question(server: SchemaRegistry) -> None:
    registry = Registry(server.url, timeout_s=1)
    server.stop()
    assert [registry.schema(id) for id in (0, -1, 2**31, 2**32 - 1)] == [None] * 4
    with pytest.raises(RegistryAway):
        registry.schema(2**31 - 1)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        *((404, b"<html>no such page</html>"), (404, b'{"error_code": 404}'), (404, b"[]"), (500, b"{}"), (429, b"")),
        *((200, b"<html>"), (200, b"[]"), (200, b"{}")),
    ],
)  # fmt: skip
def test_an_answer_of_something_else_is_never_a_verdict(status: int, body: bytes) -> None:
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    other = ThreadingHTTPServer(("127.0.0.1", 0), Other)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    try:
        with pytest.raises(RegistryAway):
            Registry(f"http://127.0.0.1:{other.server_address[1]}").schema(1)
    finally:
        other.shutdown()
        other.server_close()


def test_credentials_are_sent_and_never_shown() -> None:
    with SchemaRegistry(user="ann", password="s3cret:é/") as server:
        server.register("a", '"long"')
        port = server.url.rpartition(":")[2]
        for registry in (
            Registry(server.url, "ann", SecretStr("s3cret:é/")),
            Registry(f"http://ann:s3cret%3A%C3%A9%2F@127.0.0.1:{port}"),
        ):
            assert registry.schema(1) == Schema("AVRO", '"long"')
            assert "s3cret" not in registry.url and "ann" not in registry.url
        with pytest.raises(SettingsError, match="refuses the user") as told:
            Registry(f"http://ann:wr0ng@127.0.0.1:{port}").schema(1)
        assert "wr0ng" not in str(told.value)


@pytest.mark.parametrize("url", ["localhost:8081", "ftp://x", "", "http://"])
def test_a_setting_that_is_no_url_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(SettingsError, match="allowed is a URL as http://localhost:8081"):
        Registry(url)


def test_what_the_sandboxes_registry_holds_outlives_it(server: SchemaRegistry) -> None:
    id = server.register("a", json.dumps({"type": "map", "values": "int"}))
    server.stop()
    server.start()
    assert Registry(server.url).schema(id) == Schema("AVRO", '{"type": "map", "values": "int"}')
