"""`POST /api/events/{topic}`: events, acknowledged after Kafka has them.

    events in a request = accepted + refused        answered 200 => every accepted one is in the log, at least once, under its identity

Who heard nothing sends again: what came through the first time is then a duplicate, by its identity.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from console.api.answers import Refusal, answer
from console.api.bodies import Full, Room, Share, body_of
from console.api.told import DESCRIPTION, REQUEST_BODY, RESPONSES
from ingestion.push import BodyError, Form, TooManyEvents, refuse_half, split
from ingestion.pushing import Connecting, Push, Pushed, Pusher
from pipeline.base.errors import WatershedError, did_you_mean
from pipeline.log.log import Unacknowledged

SLOW_S, AWAY_S = 1, 5  # Retry-After
SMALL_BYTES = 256 * 1024  # a body that is cut in the event loop
FORMS = {
    "application/json": Form.JSON,
    "application/x-ndjson": Form.LINES,
    "application/ndjson": Form.LINES,
    "application/jsonl": Form.LINES,
    "application/x-jsonlines": Form.LINES,
}


@dataclass(frozen=True)
class Limits:
    """Bounds of one request, and of all that are held at once."""

    body_bytes: int
    events: int
    in_flight_bytes: int


@dataclass(frozen=True)
class Events:
    """Topics that take events, and those that cannot: why, and True where it is for their format."""

    pushers: Mapping[str, Pusher]
    closed: Mapping[str, tuple[str, bool]]
    limits: Limits


def router(events: Events) -> APIRouter:
    """The route."""
    made = APIRouter(tags=["events"])
    room, outcomes = Room(events.limits.in_flight_bytes), Outcomes()

    @made.post(
        "/api/events/{topic}",
        summary="Push events onto a topic",
        description=DESCRIPTION,
        responses=RESPONSES,
        openapi_extra={"requestBody": REQUEST_BODY},
        response_model=None,
    )
    async def push(topic: str, request: Request) -> Response:
        pusher, form = _pusher(events, topic), _form(request.headers.get("content-type", ""))
        if pusher.away is not None and not isinstance(pusher.away, Connecting):
            raise _unavailable(pusher.away, pusher)
        try:
            with Share(room) as share:
                body = await body_of(request, events.limits.body_bytes, share)
                values = await _events(body, form, events.limits.events)
                del body
                if not len(values):
                    return _answer(Pushed(0, [], {}))
                pushed = await _pushed(pusher, values, outcomes)
                if pushed.refused and len(values) == 1 and form is Form.JSON:
                    refuse_half(values[0].as_py())
                return _answer(pushed)
        except TooManyEvents as error:
            raise Refusal(413, error) from None
        except BodyError as error:
            raise Refusal(400, error) from None
        except Full:
            raise _busy(pusher, room) from None

    return made


async def _events(body: bytes, form: Form, most: int) -> Any:
    """The events of a body; a large one is cut beside the event loop."""
    if len(body) <= SMALL_BYTES:
        return split(body, form, most)
    return await asyncio.to_thread(split, body, form, most)


def _pusher(events: Events, topic: str) -> Pusher:
    found = events.pushers.get(topic)
    if found is not None:
        return found
    if topic in events.closed:
        reason, for_its_format = events.closed[topic]
        raise Refusal(415 if for_its_format else 409, reason)
    known = sorted({*events.pushers, *events.closed})
    raise Refusal(
        404, f"there is no topic {topic!r}; there are {', '.join(known)}.{did_you_mean(topic, known)}", topics=known
    )


def _form(content_type: str) -> Form:
    kind, _, parameters = content_type.partition(";")
    form = FORMS.get(kind.strip().lower())
    allowed = "allowed are application/json (an event, or an array of them) and application/x-ndjson (one a line)"
    if form is None:
        said = f"Content-Type {kind.strip()!r} is not taken" if kind.strip() else "there is no Content-Type"
        raise Refusal(415, f"{said}; {allowed}", headers={"Accept": ", ".join(FORMS)})
    charset = dict(p.strip().lower().split("=", 1) for p in parameters.split(";") if "=" in p).get("charset", "utf-8")
    if charset.strip('"') not in ("utf-8", "utf8", "us-ascii"):
        raise Refusal(415, f"charset {charset} is not taken; JSON is UTF-8")
    return form


Waiting = asyncio.Future[Pushed | Exception]


class Outcomes:
    """Outcomes on their way from other threads into the event loop, which is woken once for all that come together."""

    def __init__(self) -> None:
        self._told: deque[tuple[Waiting, Pushed | Exception]] = deque()
        self._woken = False

    def put(self, waiting: Waiting, outcome: Pushed | Exception) -> None:
        """Tell, from any thread."""
        self._told.append((waiting, outcome))
        if not self._woken:
            self._woken = True
            waiting.get_loop().call_soon_threadsafe(self._take)

    def _take(self) -> None:
        self._woken = False  # before anything is taken: whoever comes after this wakes it again
        while self._told:
            waiting, outcome = self._told.popleft()
            if not waiting.done():  # whoever asked may be gone
                waiting.set_result(outcome)


async def _pushed(pusher: Pusher, values: Any, outcomes: Outcomes) -> Pushed:
    waiting: Waiting = asyncio.get_running_loop().create_future()
    pusher.submit(Push(values, lambda outcome: outcomes.put(waiting, outcome)))
    outcome: Pushed | Exception
    try:
        outcome = await asyncio.wait_for(waiting, pusher.patience_s)
    except TimeoutError:
        outcome = Unacknowledged(
            f"topic {pusher.source.topic}: there is no answer after {pusher.patience_s:g} s: the events may be in the topic or not"
        )
    if isinstance(outcome, WatershedError):
        raise _unavailable(outcome, pusher)
    if isinstance(outcome, Exception):
        raise Refusal(
            500, "the events could not be judged: a bug of Watershed's, and its log has the details; nothing was sent"
        )
    return outcome


def _answer(pushed: Pushed) -> Response:
    rows: Sequence[dict[str, Any]] = [{"index": place, "reason": reason} for place, reason in pushed.refused]
    content = {
        "accepted": pushed.accepted,
        "refused": rows,
        "positions": {str(partition): position for partition, position in pushed.positions.items()},
    }
    return answer(content, 200 if pushed.accepted or not rows else 422)


def _unavailable(error: WatershedError, pusher: Pusher) -> Refusal:
    refusal = Refusal(503, error, headers={"Retry-After": str(AWAY_S)})
    if isinstance(error, Unacknowledged):
        again = "send them again: those that came through are duplicates, by their identity"
        if pusher.source.identity is None:
            again = "this source has no identity, so those that came through count twice when they are sent again"
        refusal.content["error"] += f"; {again}"
    return refusal


def _busy(pusher: Pusher, room: Room) -> Refusal:
    held = f"{room.held:,} bytes of events wait for Kafka, and {room.most_bytes:,} are allowed (push_in_flight_bytes)"
    if pusher.connected or isinstance(pusher.away, Connecting):
        return Refusal(429, f"Kafka is slow: {held}; nothing was sent", headers={"Retry-After": str(SLOW_S)})
    return Refusal(503, f"Kafka is away: {held}; nothing was sent", headers={"Retry-After": str(AWAY_S)})


__all__ = ["Events", "Limits", "router"]
