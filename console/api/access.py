"""Access to the API: with a token for whoever has it, without one for whoever is on this machine and says so.

    a request below /api is let in  <=>  its Authorization is `Bearer <api_token>`, where one is set

Where none is set we listen on loopback alone, and a request must name a loopback host: a page in a browser that had its own name resolve to
127.0.0.1 names another. /healthz, /readyz, /docs and /openapi.json tell nothing of anybody's data, and are open.
"""

import hmac
from functools import lru_cache
from ipaddress import ip_address

from pydantic import SecretStr
from starlette.types import ASGIApp, Receive, Scope, Send

from console.api.answers import Refusal
from pipeline.base.errors import SettingsError

CLOSED = ("/api/",)


@lru_cache(maxsize=64)
def is_loopback(host: str) -> bool:
    """True of localhost, 127.0.0.0/8 and ::1."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def check_listening(host: str, token: SecretStr | None) -> None:
    """SettingsError where others could come in without a token, or with an empty one."""
    if token is not None and not token.get_secret_value().strip():
        raise SettingsError("api_token (WATERSHED_API_TOKEN) is empty: set a token that nobody guesses, or unset it")
    if token is None and not is_loopback(host):
        raise SettingsError(
            f"--host {host} can be reached from other machines, and no api_token is set: write one into a file and name it by"
            " WATERSHED_API_TOKEN_FILE (or set WATERSHED_API_TOKEN), or serve this machine alone: `watershed serve --host 127.0.0.1`",
            repair="watershed serve --host 127.0.0.1",
        )


class Access:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, token: SecretStr | None) -> None:
        self._app = app
        self._token = None if token is None else token.get_secret_value().encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let in, or answer 401 or 403 before anything of the body is read."""
        if scope["type"] == "http" and scope["path"].startswith(CLOSED):
            refusal = self._refusal(dict(scope["headers"]))
            if refusal is not None:
                await refusal.answer()(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refusal(self, headers: dict[bytes, bytes]) -> Refusal | None:
        if self._token is None:
            host = headers.get(b"host", b"").decode("latin-1")
            name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
            if not name or is_loopback(name):
                return None
            return Refusal(403, f"without api_token only localhost is served, and the request is for {host!r}")
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), self._token):
            return None
        said = "is not the token that is set" if given else "is missing"
        return Refusal(
            401,
            f"the header Authorization {said}: send `Authorization: Bearer <api_token>`",
            headers={"WWW-Authenticate": "Bearer"},
        )


__all__ = ["Access", "check_listening", "is_loopback"]
