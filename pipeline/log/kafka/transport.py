"""Receiving in kafka-python 3.0.12: as much at once as there is, and records where they are parsed.

    the responses of receive_bytes = those of KafkaProtocol.receive_bytes, however their bytes arrive

As it comes, it receives 4096 bytes at a time and copies them five times, which costs more than decoding them. Left alone when the
installed version is another (`kafka_fetch.misfit`).
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import pyarrow as pa
from kafka import errors as kafka_errors
from kafka.net.manager import KafkaConnectionManager
from kafka.net.transport import KafkaTCPTransport
from kafka.protocol.consumer import FetchResponse
from kafka.protocol.parser import KafkaProtocol

from pipeline.log.kafka.fetch import misfit

PIECE_BYTES = 64 * 1024  # of what comes before the size of a response is known


class Frame:
    """A response while it arrives; afterwards the file that kafka-python parses, which gets all of it without a copy."""

    def __init__(self, size: int) -> None:
        # Not a bytearray: that would be zeroed first, which costs as much as receiving it.
        self._bytes = memoryview(pa.allocate_buffer(size)).cast("B")
        self._size, self._at = size, 0

    def __len__(self) -> int:
        return self._size

    @property
    def room(self) -> memoryview:
        """Bytes that have not arrived yet, writable: for recv_into, then say `filled`."""
        return self._bytes[self._at :]

    def filled(self, size: int) -> None:
        """Note that `size` bytes were received into `room`."""
        self._at += size

    def tell(self) -> int:
        """Position in bytes from the first; while it arrives, the number of bytes that are there."""
        return self._at

    def seek(self, at: int) -> None:
        """Go to the byte `at`; read from 0 once all has arrived. Not checked against the size."""
        self._at = at

    def read(self, size: int | None = None) -> bytes | memoryview:
        """`size` bytes, or fewer at the end; without a size a view of the rest."""
        begin = self._at
        self._at = self._size if size is None else min(begin + size, self._size)
        found = self._bytes[begin : self._at]
        return found if size is None else bytes(found)


class Frames:
    """Takes over from one connection's KafkaProtocol what its receive_bytes does, and receives large responses in place."""

    def __init__(self, parser: KafkaProtocol) -> None:
        self._parser = parser
        self._head = b""
        self._frame: Frame | None = None
        parser.receive_bytes = self.receive_bytes

    @property
    def frame(self) -> Frame | None:
        """The response that has begun to arrive."""
        return self._frame

    def receive_bytes(self, data: bytes | memoryview) -> list[tuple[int, Any]]:
        """As KafkaProtocol's: the responses that `data` completes; b"" when their bytes are in `frame` already."""
        rest = memoryview(data)
        responses: list[tuple[int, Any]] = []
        while True:
            if self._frame is not None:
                fits = min(len(self._frame.room), len(rest))
                self._frame.room[:fits] = rest[:fits]
                self._frame.filled(fits)
                rest = rest[fits:]
                if len(self._frame.room):
                    return responses
                frame, self._frame = self._frame, None
                frame.seek(0)
                responses.append(self._parser._process_response(frame))
            if not rest:
                return responses
            missing = 4 - len(self._head)
            self._head, rest = self._head + bytes(rest[:missing]), rest[missing:]
            if len(self._head) == 4:
                size, self._head = int.from_bytes(self._head, "big", signed=True), b""
                self._parser._validate_frame_size(size)
                self._frame = Frame(size)


def widen(manager: KafkaConnectionManager) -> None:
    """Have the connections of a new client receive as much at once as there is. Nothing when it does not fit."""
    if misfit():
        return
    leave_records_in_place()
    build = manager._build_transport

    async def build_wide(*arguments: Any, **settings: Any) -> KafkaTCPTransport:
        transport = await build(*arguments, **settings)
        transport._read_from_sock = _wide_reader(transport)
        return transport

    manager._build_transport = build_wide


def _part(data: memoryview) -> bytes | memoryview:
    """The bytes of a field of a fetch response: where they are when they are many, which are records, else a copy."""
    return data if len(data) >= PIECE_BYTES else bytes(data)


@cache
def leave_records_in_place() -> None:
    """Have the decoders of fetch responses, which kafka-python writes as source and compiles, make views of records and no copies."""
    response = FetchResponse[None]
    for version in range(response.min_version, response.max_version + 1):
        flexible = response.flexible_version_q(version)
        decode = response._struct.compiled_decode_from(version, compact=flexible, tagged=flexible, data_class=response)
        decode.__globals__["bytes"] = _part


def _wide_reader(transport: KafkaTCPTransport) -> Callable[[], Any]:
    """KafkaTCPTransport._read_from_sock and _sock_recv in one; TLS too, so it reads on until the socket has no more."""
    piece = memoryview(bytearray(PIECE_BYTES))
    frames: Frames | None = None

    async def read_from_sock() -> None:
        nonlocal frames
        while transport._read and not transport._closed:
            await transport._net.wait_read(transport._sock)
            while transport._read and not transport._closed:
                connection = transport._protocol
                if frames is None or frames._parser is not connection.parser:
                    frames = Frames(connection.parser)
                frame = frames.frame
                try:
                    size = transport._sock.recv_into(piece if frame is None else frame.room)
                except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    break
                except OSError as error:
                    transport.abort(error=kafka_errors.KafkaConnectionError(error))
                    return
                if not size:
                    transport.abort(error=kafka_errors.KafkaConnectionError("socket disconnected"))
                    return
                transport.last_read = time.monotonic()
                if connection._sensors:
                    connection._sensors.bytes_received.record(size)
                try:
                    if frame is None:
                        connection.data_received(piece[:size])
                    else:
                        frame.filled(size)
                        if not len(frame.room):
                            connection.data_received(b"")
                except kafka_errors.KafkaProtocolError as error:
                    transport.abort(error=error)
                    return

    return read_from_sock
