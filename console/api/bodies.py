"""The body of a request, in bounded memory: counted while it comes, unpacked while it comes, and refused as soon as it is too much.

bytes held for all requests <= Room.most_bytes        of one request <= most_bytes, packed and unpacked
"""

import asyncio
import zlib
from collections.abc import Iterator

from starlette.requests import ClientDisconnect, Request

from console.api.answers import Refusal

REQUEST_BYTES = 2048  # of a request, besides its body
GZIP = 16 + zlib.MAX_WBITS
STEP_BYTES = 256 * 1024  # that are unpacked at once
PATIENCE_S = 30.0  # for a body to come


class Full(Exception):
    """Too much is held already."""


class Room:
    """Bytes of requests that were taken in and not answered. Used by the event loop's thread alone."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes, self.held = most_bytes, 0

    def take(self, size: int, own: int = 0) -> None:
        """Full where they do not fit beside what others hold, which is all but `own`; a request that is alone always fits."""
        if self.held > own and self.held + size > self.most_bytes:
            raise Full
        self.held += size

    def give_back(self, size: int) -> None:
        """Let go of bytes whose requests are answered."""
        self.held -= size


class Share:
    """Bytes of a room that one request holds; given back at the end."""

    def __init__(self, room: Room) -> None:
        self._room, self._held = room, 0

    def __enter__(self) -> "Share":
        self.take(REQUEST_BYTES)
        return self

    def __exit__(self, *error: object) -> None:
        self._room.give_back(self._held)

    def take(self, size: int) -> None:
        """Hold more; Full where it does not fit."""
        self._room.take(size, self._held)
        self._held += size


async def body_of(request: Request, most_bytes: int, share: Share) -> bytes:
    """The unpacked body; Refusal 400, 408, 413 or 415 where it cannot be had, Full where there is no room for it."""
    unpack = _unpacker(request.headers.get("content-encoding", ""))
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > most_bytes:
        raise _too_large(f"the body has {int(announced):,} bytes", most_bytes)
    parts: list[bytes] = []
    packed = size = 0
    try:
        async with asyncio.timeout(PATIENCE_S):
            async for chunk in request.stream():
                packed += len(chunk)
                if packed > most_bytes:
                    raise _too_large("the body has more", most_bytes)
                for part in unpack.feed(chunk):
                    size += len(part)
                    if size > most_bytes:
                        raise _too_large(
                            f"unpacked, the body has more (of the first {packed:,} packed bytes)", most_bytes
                        )
                    share.take(len(part))
                    parts.append(part)
    except TimeoutError:
        raise Refusal(408, f"the body did not come within {PATIENCE_S:g} s", headers={"Connection": "close"}) from None
    except ClientDisconnect:
        raise Refusal(400, "the body broke off") from None
    unpack.end()
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large(what: str, most_bytes: int) -> Refusal:
    return Refusal(413, f"{what}; allowed are {most_bytes:,} bytes (push_body_bytes): send it in several requests")


class _Plain:
    """A body that is not packed."""

    def feed(self, chunk: bytes) -> list[bytes]:
        """The same."""
        return [chunk] if chunk else []

    def end(self) -> None:
        """Nothing is open."""


class _Gzip:
    """Members of gzip, one after the other."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(GZIP)
        self._begun = self._whole = False

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Unpacked parts of at most STEP_BYTES, made when they are asked for; Refusal for what is no gzip."""
        while chunk:
            if self._member.eof:
                self._member = zlib.decompressobj(GZIP)
            self._begun, self._whole = True, False
            try:
                part = self._member.decompress(chunk, STEP_BYTES)
            except zlib.error as error:
                raise Refusal(400, f"Content-Encoding says gzip, and the body is none: {error}") from None
            chunk = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            self._whole = self._member.eof
            if part:
                yield part

    def end(self) -> None:
        """Refusal where the last member is not whole."""
        if self._begun and not self._whole:
            raise Refusal(400, "the body ends in the middle of its gzip")


def _unpacker(encoding: str) -> "_Plain | _Gzip":
    match encoding.strip().lower():
        case "" | "identity":
            return _Plain()
        case "gzip" | "x-gzip":
            return _Gzip()
    raise Refusal(
        415,
        f"Content-Encoding {encoding!r} is not taken; allowed are gzip and none",
        headers={"Accept-Encoding": "gzip"},
    )


__all__ = ["Full", "Room", "Share", "body_of"]
