"""`/healthz`: the process answers. `/readyz`: every topic that takes events has a broker that is connected."""

from collections.abc import Mapping

from fastapi import APIRouter
from starlette.responses import Response

from console.api.answers import answer
from ingestion.pushing import Pusher


def router(pushers: Mapping[str, Pusher]) -> APIRouter:
    """Both routes."""
    made = APIRouter(tags=["health"])

    @made.get("/healthz", summary="The process answers", response_model=None)
    async def healthz() -> Response:
        return answer({"ok": True})

    @made.get(
        "/readyz",
        summary="Every topic can take events",
        response_model=None,
        responses={503: {"description": "Some cannot, and why"}},
    )
    async def readyz() -> Response:
        told = {topic: _standing(pusher) for topic, pusher in pushers.items()}
        ready = all(one == "ready" for one in told.values())
        return answer({"ready": ready, "topics": told}, 200 if ready else 503)

    return made


def _standing(pusher: Pusher) -> str:
    if pusher.away is not None:
        return pusher.away.text
    return "ready" if pusher.connected else f"topic {pusher.source.topic}: no broker is connected"


__all__ = ["router"]
