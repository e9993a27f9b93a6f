"""The words of OpenAPI about `POST /api/events/{topic}`."""

from typing import Any

EVENT: dict[str, Any] = {"type": "object", "description": "An event as the topic's Source declares it"}
DESCRIPTION = """Each event is checked as both layers check it. Those that the Source would reject are refused, with their place in
the request (from 0 on) and the reason; the others are sent, byte for byte, under the Source's key. The answer comes when all in-sync
replicas have them.

`positions` has, for each partition, the offset behind the last accepted event: where `serving.freshness` has reached them, they are served.

An event that is sent twice is a duplicate by its identity, so a request without an answer is sent again."""
REQUEST_BODY: dict[str, Any] = {
    "required": True,
    "description": "UTF-8, also with Content-Encoding: gzip",
    "content": {
        "application/json": {"schema": {"oneOf": [EVENT, {"type": "array", "items": EVENT}]}},
        "application/x-ndjson": {"schema": {"type": "string", "description": "one event a line"}},
    },
}
OUTCOME = {
    "type": "object",
    "required": ["accepted", "refused", "positions"],
    "properties": {
        "accepted": {"type": "integer"},
        "refused": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["index", "reason"],
                "properties": {"index": {"type": "integer"}, "reason": {"type": "string"}},
            },
        },
        "positions": {"type": "object", "additionalProperties": {"type": "integer"}},
    },
}
ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string"}, "repair": {"type": "string", "description": "the next command"}},
}
RETRY = {"Retry-After": {"schema": {"type": "integer"}, "description": "seconds"}}


def _of(description: str, schema: dict[str, Any] = ERROR, **more: Any) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}, **more}


RESPONSES: dict[int | str, dict[str, Any]] = {
    200: _of("Kafka has the accepted events; some may be refused", OUTCOME),
    400: _of("The body cannot be cut into events: half a JSON, broken gzip, empty. Nothing was sent"),
    401: _of("The token is missing, or another one"),
    403: _of("Without a token: the request names another host than this machine"),
    404: _of("The topic is none of the views module's"),
    408: _of("The body did not come in time"),
    409: _of("The topic's events need what stands around an event: a record's key, or headers"),
    413: _of("The body is too large, packed or unpacked, or has too many events"),
    415: _of("Content-Type, Content-Encoding or the topic's format is none that is taken"),
    422: _of("Every event is refused", OUTCOME),
    429: _of("Kafka is slow, and too much waits for it. Nothing was sent", headers=RETRY),
    503: _of("Kafka is away, or did not acknowledge in time; the text says whether events may be there", headers=RETRY),
}

__all__ = ["DESCRIPTION", "REQUEST_BODY", "RESPONSES"]
