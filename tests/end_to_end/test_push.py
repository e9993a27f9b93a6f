"""Events pushed over HTTP to a real server before a real Kafka: what is taken, what is refused and how, and who may ask."""

from __future__ import annotations

import gzip
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from console.api.told import RESPONSES
from pipeline.log.kafka.log import KafkaLog
from tests.support.docs import tables, text_of
from tests.support.pushing import PARTITIONS, VIEWS, WITH_MISSING, made, order, stored
from tests.support.secured import Secured, environment
from tests.support.serving import Served
from tests.support.system import System, wait_for


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, real_kafka: str) -> Iterator[tuple[System, Served]]:
    """One server for all that leaves it as it is; small limits."""
    system = made(tmp_path_factory.mktemp("push"), real_kafka, WITH_MISSING)
    limits = {"WATERSHED_PUSH_BODY_BYTES": "500000", "WATERSHED_PUSH_EVENTS": "1000"}
    limits |= {"WATERSHED_PUSH_EVENT_BYTES": "100000"}
    server = Served(system, wait=False, **limits)
    wait_for(lambda: server.get("/readyz").json()["topics"][system.topic] == "ready", "its topic is ready")
    yield system, server
    system.stop_all()


def test_events_are_acknowledged_when_kafka_has_them_byte_for_byte_under_their_key(
    tmp_path: Path, real_kafka: str
) -> None:
    system = made(tmp_path, real_kafka)
    server = Served(system)
    one = b' {"id": "a",  "shop":"s1", "at":"2024-01-01T00:00:00Z", "amount": 2.50}\n'
    told = server.push(system.topic, one)
    assert told.status_code == 200 and told.json()["accepted"] == 1 and told.json()["refused"] == []
    many = [json.dumps(order(n)).encode() for n in range(100)]
    bad = json.dumps(order(amount=101)).encode()
    array = server.push(system.topic, b"[" + b",\n".join([*many[:50], bad]) + b"]").json()
    assert array["accepted"] == 50
    assert array["refused"] == [{"index": 50, "reason": "amount: breaks Between(low=0, high=100)"}]
    packed = gzip.compress(b"\n".join(many[50:80])) + gzip.compress(b"\n" + b"\n".join(many[80:]) + b"\n")
    lines = server.push(system.topic, packed, "application/x-ndjson", Content_Encoding="gzip").json()
    assert lines["accepted"] == 50
    found = stored(system)
    assert sorted(value for _, value in found) == sorted([one.strip(), *many])
    assert all(json.loads(value)["shop"].encode() == key for key, value in found)
    log = KafkaLog(real_kafka)
    ends = log.end_offsets(system.topic)
    log.close()
    furthest = {p: max(one.get(str(p), 0) for one in (told.json()["positions"], array["positions"], lines["positions"]))
                for p in range(PARTITIONS)}  # fmt: skip
    assert [furthest[p] for p in range(PARTITIONS)] == ends
    system.stop_all()


def test_an_event_that_is_pushed_lands_where_the_same_event_lands_that_is_fed(tmp_path: Path, real_kafka: str) -> None:
    """So a copy of it is a duplicate, whichever way each took."""
    system = made(tmp_path, real_kafka)
    server = Served(system)
    events = [json.dumps(order(n, shop=f"shop {n}")) for n in range(40)]
    assert server.push(system.topic, "\n".join(events), "application/x-ndjson").json()["accepted"] == 40
    file = tmp_path / "orders.jsonl"
    file.write_text("\n".join(events))
    system.run("ingest", system.topic, str(file))
    log = KafkaLog(real_kafka)
    ends = log.end_offsets(system.topic)
    seen = 0
    for partition, end in enumerate(ends):
        keys = [key for b in log.read(system.topic, partition, 0, end) for key in b.batch.column("key").to_pylist()]
        half = len(keys) // 2
        assert sorted(keys[:half]) == sorted(keys[half:]) and len(set(keys)) == half
        seen += half
    log.close()
    assert seen == 40
    system.stop_all()


BOMB = gzip.compress(b" " * 200_000_000, 9)
REFUSED = {
    "empty": (b"", {}, 400, "the body is empty"),
    "half": (b'[{"id": "1"}, {"id"', {}, 400, "half a JSON"),
    "deep": (b"[" * 10_000, {}, 400, "half a JSON"),
    "no object": (b"17", {}, 400, "neither an object nor an array"),
    "byte order mark": (b"\xef\xbb\xbf{}", {}, 400, "byte order mark"),
    "utf-16": ("[]".encode("utf-16"), {}, 400, "UTF-16"),
    "two objects": (b"{}\n{}", {}, 400, "application/x-ndjson"),
    "no gzip": (b"{}", {"Content_Encoding": "gzip"}, 400, "Content-Encoding says gzip, and the body is none"),
    "half a gzip": (gzip.compress(b"{}")[:-5], {"Content_Encoding": "gzip"}, 400, "middle of its gzip"),
    "gzip and more": (gzip.compress(b"{}") + b"more", {"Content_Encoding": "gzip"}, 400, "says gzip"),
    "bomb": (BOMB, {"Content_Encoding": "gzip"}, 413, "unpacked, the body has more"),
    "large": (b"x" * 500_001, {}, 413, "the body has 500,001 bytes; allowed are 500,000 bytes (push_body_bytes)"),
    "many": (b"[" + b"1," * 1000 + b"1]", {}, 413, "more than 1,000 events (push_events)"),
    "br": (b"{}", {"Content_Encoding": "br"}, 415, "allowed are gzip and none"),
    "form": (b"a=1", {"kind": "application/x-www-form-urlencoded"}, 415, "allowed are application/json"),
    "latin": (b"{}", {"kind": "application/json; charset=latin-1"}, 415, "charset latin-1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_request_that_is_wrong_is_refused_in_json_with_why(served: tuple[System, Served], case: str) -> None:
    (system, server), (body, more, status, said) = served, REFUSED[case]
    told = server.push(system.topic, body, **more)
    assert (told.status_code, told.headers["content-type"]) == (status, "application/json")
    assert said in told.json()["error"]
    assert server.push(system.topic, json.dumps(order())).status_code == 200  # and the server goes on


def test_a_request_without_content_type_is_refused_as_a_page_of_another_site_could_send_it(
    served: tuple[System, Served],
) -> None:
    system, server = served
    told = server.session.post(f"{server.url}/api/events/{system.topic}", data=b"{}", timeout=60)
    assert told.status_code == 415 and "there is no Content-Type" in told.json()["error"]


@pytest.mark.parametrize(
    ("body", "reasons"),
    [
        (b'[{"id": NaN}]', ["NaN is no JSON value"]),
        (b'[1, "a", [], null]', ["the event is no JSON object"] * 4),
        (b'{"id": "\xff"}', ["invalid UTF-8 at byte 8"]),
        (b'{"id": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", ["nested deeper than 64 levels"]),
        (
            b'{"id": "' + b"x" * 100_000 + b'"}',
            ["the event has 100,010 bytes; allowed are 100,000 (push_event_bytes)"],
        ),
    ],
    ids=["nan", "no-objects", "no-utf8", "deep", "large"],
)
def test_where_every_event_is_refused_the_answer_is_422(
    served: tuple[System, Served], body: bytes, reasons: list[str]
) -> None:
    system, server = served
    told = server.push(system.topic, body)
    assert told.status_code == 422
    refused = [{"index": n, "reason": reason} for n, reason in enumerate(reasons)]
    assert told.json() == {"accepted": 0, "refused": refused, "positions": {}}


def test_no_events_are_no_error(served: tuple[System, Served]) -> None:
    system, server = served
    told = server.push(system.topic, b" [ ] ")
    assert told.status_code == 200 and told.json() == {"accepted": 0, "refused": [], "positions": {}}


def test_a_topic_that_cannot_take_events_says_why(served: tuple[System, Served]) -> None:
    system, server = served
    unknown = server.push(system.topic[:-1], b"{}")
    assert unknown.status_code == 404 and unknown.json()["topics"] == sorted(
        system.topic + end for end in ("", ".avro", ".keyed", ".missing")
    )
    assert f"Did you mean {system.topic!r}?" in unknown.json()["error"]
    avro = server.push(f"{system.topic}.avro", b"{}")
    assert avro.status_code == 415 and "has Avro(" in avro.json()["error"]
    keyed = server.push(f"{system.topic}.keyed", b"{}")
    assert keyed.status_code == 409 and "Keyed.shop is read from around the event" in keyed.json()["error"]
    for said in ("has Avro(", "Keyed.shop"):
        assert f"no events over HTTP: topic {system.topic}" in server.log and said in server.log


def test_a_topic_that_is_not_on_the_broker_is_503_with_the_repair_until_it_is_there(
    served: tuple[System, Served],
) -> None:
    system, server = served
    topic = f"{system.topic}.missing"
    told = server.push(topic, json.dumps(order()))
    assert (told.status_code, told.json()["repair"]) == (503, "watershed init") and int(told.headers["Retry-After"]) > 0
    assert topic in told.json()["error"]
    assert server.get("/readyz").status_code == 503 and topic in server.get("/readyz").json()["topics"][topic]
    log = KafkaLog(system.kafka)
    log.create_topic(topic, 1)
    log.close()
    wait_for(lambda: server.push(topic, json.dumps(order())).status_code == 200, "it takes events")
    assert server.get("/readyz").status_code == 200


def test_what_is_not_there_and_what_may_not_be_done_is_told_in_json(served: tuple[System, Served]) -> None:
    system, server = served
    assert server.get("/healthz").json() == {"ok": True}
    assert server.get("/api/nothing").json() == {"error": "Not Found: GET /api/nothing"}
    assert server.get(f"/api/events/{system.topic}").status_code == 405


def test_the_documentation_needs_nothing_from_elsewhere(served: tuple[System, Served]) -> None:
    _, server = served
    page = server.get("/docs").text
    named = [part.partition('"')[0] for part in page.split('src="')[1:] + page.split('href="')[1:]]
    assert named and not any("//" in one for one in named)
    assert all(server.get(one).status_code == 200 for one in named)
    told = server.get("/openapi.json").json()["paths"]["/api/events/{topic}"]["post"]
    assert {"200", "422", "429", "503"} <= set(told["responses"]) and "application/x-ndjson" in told["requestBody"][
        "content"
    ]


def test_an_event_larger_than_the_topic_takes_is_refused_and_the_others_are_sent(
    tmp_path: Path, real_kafka: str
) -> None:
    system = made(tmp_path, real_kafka)
    small = f"{system.topic}.small"
    log = KafkaLog(real_kafka)
    log.create_topic(small, 1, {"max.message.bytes": "2000"})
    log.close()
    system.define(VIEWS.format(topic=small))
    server = Served(system)
    events = [order(0), order(1, note="x" * 1900), *(order(n) for n in range(2, 60))]
    told = server.push(small, json.dumps(events))
    assert told.status_code == 200 and told.json()["accepted"] == 59
    assert [one["index"] for one in told.json()["refused"]] == [1]
    assert "max.message.bytes is 2,000" in told.json()["refused"][0]["reason"]
    system.stop_all()


# --- who may ask


def test_with_a_token_only_whoever_has_it_is_let_in(tmp_path: Path, real_kafka: str) -> None:
    system = made(tmp_path, real_kafka)
    secret = tmp_path / "token"
    secret.write_text("s3cr3t\n")
    server = Served(system, "--host", "0.0.0.0", WATERSHED_API_TOKEN_FILE=str(secret))
    server.url = server.url.replace("0.0.0.0", "127.0.0.1")
    none: dict[str, str] = {}
    other, bare = {"Authorization": "Bearer other"}, {"Authorization": "s3cr3t"}
    for headers, said in ((none, "is missing"), (other, "is not the token"), (bare, "is missing")):
        told = server.push(system.topic, json.dumps(order()), **headers)
        assert told.status_code == 401 and said in told.json()["error"] and told.headers["WWW-Authenticate"] == "Bearer"
    assert server.push("unknown", b"{}").status_code == 401
    assert server.push(system.topic, json.dumps(order()), Authorization="bearer s3cr3t").status_code == 200
    assert server.get("/healthz").status_code == server.get("/docs").status_code == 200
    assert "s3cr3t" not in server.log and len(stored(system)) == 1
    system.stop_all()


def test_without_a_token_a_name_that_is_not_this_machines_is_refused(served: tuple[System, Served]) -> None:
    system, server = served
    told = server.push(system.topic, json.dumps(order()), Host="evil.example:8080")
    assert told.status_code == 403 and "evil.example" in told.json()["error"]
    assert server.push(system.topic, json.dumps(order()), Host="localhost:80").status_code == 200


def test_whoever_is_on_a_secured_kafka_needs_to_write_and_is_told_so(tmp_path: Path, secured: Secured) -> None:
    system = made(tmp_path, secured.kafka.bootstrap)
    system.environment |= environment(secured.connection("USERSTLS"))
    secured.allow("worker", [("Read", "topic", system.topic), ("DescribeConfigs", "topic", system.topic)])
    server = Served(system, WATERSHED_PUSH_TIMEOUT_S="5")
    told = server.push(system.topic, json.dumps(order()))
    assert told.status_code == 503 and "the operation Write on topic" in told.json()["error"]
    secured.allow("worker", [("Write", "topic", system.topic)])
    wait_for(lambda: server.push(system.topic, json.dumps(order())).status_code == 200, "it may write")
    assert secured.password not in server.log
    system.stop_all()


def test_beyond_loopback_without_a_token_it_does_not_start(tmp_path: Path, real_kafka: str) -> None:
    system = made(tmp_path, real_kafka)
    done = system.run("serve", "--host", "0.0.0.0", check=False)
    assert done.returncode == 1 and "no api_token is set" in done.stderr
    assert "next: watershed serve --host 127.0.0.1" in done.stderr
    empty = system.run("serve", "--host", "0.0.0.0", check=False, WATERSHED_API_TOKEN="")
    assert empty.returncode == 1 and "api_token (WATERSHED_API_TOKEN) is empty" in empty.stderr


def test_a_file_of_the_connection_that_is_missing_is_told_before_it_listens(tmp_path: Path, real_kafka: str) -> None:
    system = made(tmp_path, real_kafka)
    missing = str(tmp_path / "nowhere.pem")
    done = system.run("serve", check=False, WATERSHED_KAFKA_SECURITY_PROTOCOL="SSL", WATERSHED_KAFKA_SSL_CAFILE=missing)
    assert done.returncode == 1 and f"{missing} cannot be read" in done.stderr and "Traceback" not in done.stderr


def test_a_port_that_is_taken_and_an_extra_that_is_missing_are_one_line(tmp_path: Path, real_kafka: str) -> None:
    system = made(tmp_path, real_kafka)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = system.run("serve", "--port", str(taken.getsockname()[1]), check=False)
    assert done.returncode == 1 and "say another --port" in done.stderr and "Traceback" not in done.stderr
    code = "import sys; sys.modules['uvicorn'] = None; import watershed; watershed.main(['serve'])"
    lacking = subprocess.run(
        [sys.executable, "-c", code], env=system.environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert lacking.returncode == 1 and "needs uvicorn, of the extra [serve]" in lacking.stderr
    assert "next: pip install 'watershed-pipeline[serve]'" in lacking.stderr and "Traceback" not in lacking.stderr


# --- being told to stop


def test_sigterm_answers_what_was_taken_in_and_exits_0(tmp_path: Path, real_kafka: str) -> None:
    system = made(tmp_path, real_kafka)
    server = Served(system)
    told: list[int] = []

    def push(number: int) -> None:
        for batch in range(1000):
            events = [order(number * 1_000_000 + batch * 100 + n) for n in range(100)]
            try:
                answer = requests.post(f"{server.url}/api/events/{system.topic}", json=events, timeout=60)
            except requests.ConnectionError:
                return  # it takes no connection any more, or closed one that was idle
            assert answer.status_code == 200
            told.append(answer.json()["accepted"])

    with ThreadPoolExecutor(4) as pool:
        pushes = [pool.submit(push, number) for number in range(4)]
        wait_for(lambda: len(told) >= 20, "some are answered")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0, server.log
        for one in pushes:
            one.result(60)
    assert len(stored(system)) == sum(told) == 100 * len(told)
    assert "Traceback" not in server.log
    system.stop_all()


# --- the page


def test_the_curl_line_of_the_page_gives_the_answer_of_the_page(tmp_path: Path, real_kafka: str) -> None:
    page = text_of("docs/DATA-IN.md").partition("\n## Push over HTTP\n")[2]
    commands, told = (
        re.findall(rf"^```{kind}\n(.*?)^```", page, re.DOTALL | re.MULTILINE)[0] for kind in ("sh", "json")
    )
    system = made(tmp_path, real_kafka)
    topic = f"{system.topic}.shop"
    lines = [line for line in VIEWS.splitlines() if not line.startswith(("missing", "avro", "keyed", "VIEWS"))]
    views = "\n".join([*lines, 'VIEWS = (counted("orders", orders),)']).replace('"shop"', '"customer"')
    views = views.replace("    shop: str\n", "    customer: str\n").replace("0, 100)]", "0, 100000)]")
    system.define(views.format(topic=topic))
    log = KafkaLog(real_kafka)
    log.create_topic(topic, 1)
    log.close()
    server = Served(system)
    serve, _, curl = commands.partition("\n")
    assert serve.split()[:2] == ["watershed", "serve"] and "shop.orders" in curl
    curl = curl.replace("http://127.0.0.1:8080", server.url).replace("shop.orders", topic)
    done = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) == json.loads(told)
    system.stop_all()


def test_what_a_status_of_the_page_says_is_what_openapi_says() -> None:
    named = {
        int(code) for row in tables("docs/DATA-IN.md", "## Push over HTTP") for code in re.findall(r"\d{3}", row[0])
    }
    assert named == {*RESPONSES}
