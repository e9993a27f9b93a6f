"""The server of a settings' views: its parts put together, run until SIGTERM.

After SIGTERM no connection is taken; what was taken in is sent, acknowledged and answered, and the exit code is 0.
"""

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import typer
import uvicorn
from fastapi import FastAPI

from console.api import events, health
from console.api.access import check_listening
from console.api.app import make_app
from ingestion.feed import load_feeds
from ingestion.push import no_pushes
from ingestion.pushing import Pusher
from pipeline.base.errors import SettingsError
from pipeline.base.memory import reuse_memory
from pipeline.definition.source import Source
from pipeline.kernels.compiling import needed
from pipeline.log.kafka.push_producer import KafkaPushProducer
from pipeline.settings import Settings
from pipeline.warm_up import warm_up

SWITCH_S = 0.0005  # Python's own 5 ms is what an answer would wait for each thread that computes
ANSWER_S = 10.0  # for answers to leave, after SIGTERM, besides the time that Kafka has


def serve(settings: Settings, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT; SettingsError where it cannot listen there, or a file of the connection is missing."""
    check_listening(host, settings.api_token)
    made = sources(settings)
    connection = settings.kafka_connection()
    connection.check_files()
    closed = {topic: why for topic, source in made.items() if (why := no_pushes(source)) is not None}
    for reason, _ in closed.values():
        typer.echo(f"no events over HTTP: {reason}", err=True)
    warm_up(settings.load_views())
    for kernel in needed("splitting", "outgoing"):
        kernel.ready()

    def maker(topic: str) -> Callable[[], KafkaPushProducer]:
        return lambda: KafkaPushProducer(connection, topic, timeout_s=settings.push_timeout_s)

    pushers = {
        topic: Pusher(source, maker(topic), timeout_s=settings.push_timeout_s, event_bytes=settings.push_event_bytes)
        for topic, source in made.items()
        if topic not in closed
    }
    limits = events.Limits(settings.push_body_bytes, settings.push_events, settings.push_in_flight_bytes)
    routers = [events.router(events.Events(pushers, closed, limits)), health.router(pushers)]
    app = make_app(routers, settings.api_token, _lifespan(pushers))
    _run(app, _listen(host, port), host, settings.push_timeout_s + ANSWER_S)


def sources(settings: Settings) -> dict[str, Source]:
    """topic -> Source, of all views and feeds."""
    found = {view.source.topic: view.source for view in settings.load_views()}
    return found | {feed.source.topic: feed.source for feed in load_feeds(settings.views)}


def _lifespan(pushers: dict[str, Pusher]) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        for pusher in pushers.values():
            pusher.start()
        try:
            yield
        finally:
            await asyncio.gather(*(asyncio.to_thread(pusher.stop) for pusher in pushers.values()))

    return lifespan


def _listen(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(found[4][:2], family=found[0], backlog=2048)
    except OSError as error:
        raise SettingsError(
            f"cannot listen on {host}, port {port}: {error.strerror or error}; say another --port or --host"
        ) from None


def _run(app: FastAPI, listening: socket.socket, host: str, patience_s: float) -> None:
    sys.setswitchinterval(SWITCH_S)
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        proxy_headers=False,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=round(patience_s),
    )
    server = uvicorn.Server(config)
    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises the signal again when it is done: then it is over
        signal.signal(number, lambda *_: None)
    reuse_memory()
    with listening:
        shown = f"[{host}]" if ":" in host else host
        typer.echo(f"serving http://{shown}:{listening.getsockname()[1]}/docs", err=True)
        server.run(sockets=[listening])


__all__ = ["serve", "sources"]
