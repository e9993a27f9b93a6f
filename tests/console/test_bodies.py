"""The body of a request, when it comes slowly, or finds no room."""

import asyncio
from typing import Any

import pytest
from starlette.requests import Request

from console.api import bodies
from console.api.answers import Refusal
from console.api.bodies import REQUEST_BYTES, Full, Room, Share, body_of


def request(*chunks: bytes, ends: bool = True) -> Request:
    """A request whose body comes in these chunks, and then no more."""
    left = list(chunks)

    async def receive() -> dict[str, Any]:
        if not left and not ends:
            await asyncio.Event().wait()
        body = left.pop(0) if left else b""
        return {"type": "http.request", "body": body, "more_body": bool(left) or not ends}

    return Request({"type": "http", "method": "POST", "path": "/", "headers": []}, receive)


def test_a_body_that_does_not_come_is_408_and_its_room_is_free_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "PATIENCE_S", 0.05)
    room = Room(1 << 20)

    async def read() -> None:
        with Share(room) as share:
            await body_of(request(b"{", ends=False), 1000, share)

    with pytest.raises(Refusal) as caught:
        asyncio.run(read())
    assert caught.value.status == 408 and room.held == 0


def test_a_request_without_room_waits_nowhere_and_one_that_is_alone_always_fits() -> None:
    room = Room(2 * REQUEST_BYTES)

    async def read() -> None:
        with Share(room) as alone:
            assert len(await body_of(request(b"x" * 100, b"y" * REQUEST_BYTES), 10_000, alone)) == 100 + REQUEST_BYTES
            assert room.held == 2 * REQUEST_BYTES + 100
            with pytest.raises(Full), Share(room):
                raise AssertionError("there was room")
            assert room.held == 2 * REQUEST_BYTES + 100
        assert room.held == 0
        with Share(room) as first, Share(room) as second:
            with pytest.raises(Full):
                await body_of(request(b"{}"), 10_000, second)
            with pytest.raises(Full):
                await body_of(request(b"{}"), 10_000, first)

    asyncio.run(read())
    assert room.held == 0
