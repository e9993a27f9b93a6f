"""The app, made of its parts: `make_app(routers, token)`.

Documentation is at /docs, and needs nothing from the internet. An error that nobody foresaw is a 500 in JSON; its traceback is in the log.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager

from fastapi import APIRouter, FastAPI, Request
from fastapi_offline import FastAPIOffline
from pydantic import SecretStr
from starlette.exceptions import HTTPException
from starlette.responses import Response

from console.api.access import Access
from console.api.answers import Refusal, answer

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]
log = logging.getLogger("watershed.api")


def make_app(routers: Sequence[APIRouter], token: SecretStr | None, lifespan: Lifespan | None = None) -> FastAPI:
    """The app; `lifespan` is entered before the first request and left after the last."""
    app = FastAPIOffline(
        title="Watershed",
        description="One definition, two layers, one answer.",
        redoc_url=None,
        lifespan=lifespan,
    )
    for one in routers:
        app.include_router(one)
    app.add_exception_handler(Refusal, _refusal)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _bug)
    app.add_middleware(Access, token=token)
    return app


async def _refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return error.answer()


async def _http(request: Request, error: Exception) -> Response:
    """Not found, and methods that are not allowed, as every other refusal."""
    assert isinstance(error, HTTPException)
    return answer({"error": f"{error.detail}: {request.method} {request.url.path}"}, error.status_code, error.headers)


async def _bug(request: Request, error: Exception) -> Response:
    log.error("%s %s", request.method, request.url.path, exc_info=error)
    return answer({"error": "an error that nobody foresaw; the server's log has the details"}, 500)


__all__ = ["Lifespan", "make_app"]
