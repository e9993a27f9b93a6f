"""Ways in which an API knows who asks; each names its credential (a setting), and holds no secret."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import quote

from ingestion.objects import parse_json
from ingestion.origins.declaring import credential, http_url, is_text
from ingestion.origins.http import Answer, Signed
from pipeline.base.declared import Declared
from pipeline.base.errors import DefinitionError, OriginError

Secret = Callable[[str], str]
Post = Callable[..., Answer]
MARGIN_S = 30.0  # before its end a token is renewed
SHORTEST_S = 60.0  # that a token is kept where nobody says how long it lasts


@dataclass(frozen=True)
class Bearer(metaclass=Declared):
    """`Authorization: Bearer TOKEN`; the credential is the token."""

    credential: str
    holds: ClassVar[str] = "the token"

    def __post_init__(self) -> None:
        credential(self.credential, "Bearer")

    def signer(self, secret: Secret, post: Post) -> Callable[[bool], Signed]:
        """Maker of what goes with a request; see http.Http."""
        token = secret(self.credential)
        return lambda anew: Signed({"Authorization": f"Bearer {token}"}, {}, (token,))


@dataclass(frozen=True)
class Basic(metaclass=Declared):
    """User and password; the credential is `user:password`."""

    credential: str
    holds: ClassVar[str] = "user:password"

    def __post_init__(self) -> None:
        credential(self.credential, "Basic")

    def signer(self, secret: Secret, post: Post) -> Callable[[bool], Signed]:
        """Maker of what goes with a request; see http.Http."""
        user, password = _pair(secret(self.credential), self.credential, self.holds)
        coded = base64.b64encode(f"{user}:{password}".encode()).decode()
        return lambda anew: Signed({"Authorization": f"Basic {coded}"}, {}, (password, coded))


@dataclass(frozen=True)
class ApiKey(metaclass=Declared):
    """A key in a header, or in a parameter of the URL where an API takes it only there; the credential is the key."""

    credential: str
    header: str | None = None
    param: str | None = None
    holds: ClassVar[str] = "the key"

    def __post_init__(self) -> None:
        credential(self.credential, "ApiKey")
        if (self.header is None) == (self.param is None):
            raise DefinitionError("ApiKey takes a header or a param: header='X-API-Key', or param='key'")
        is_text(self.header or self.param, "header or param of ApiKey", "X-API-Key")

    def signer(self, secret: Secret, post: Post) -> Callable[[bool], Signed]:
        """Maker of what goes with a request; see http.Http."""
        key = secret(self.credential)
        headers = {self.header: key} if self.header is not None else {}
        params = {self.param: key} if self.param is not None else {}
        return lambda anew: Signed(headers, params, (key,))


@dataclass(frozen=True)
class OAuth(metaclass=Declared):
    """OAuth 2 client credentials: a token is had at `token_url`, and anew when it ends; the credential is `client_id:client_secret`."""

    credential: str
    token_url: str
    scope: str | None = None
    holds: ClassVar[str] = "client_id:client_secret"

    def __post_init__(self) -> None:
        credential(self.credential, "OAuth")
        http_url(self.token_url, "token_url of OAuth")
        if self.scope is not None:
            is_text(self.scope, "scope of OAuth", "read")

    def signer(self, secret: Secret, post: Post) -> Callable[[bool], Signed]:
        """Maker of what goes with a request; see http.Http."""
        return _Tokens(self, *_pair(secret(self.credential), self.credential, self.holds), post)


class _Tokens:
    """The token of the moment."""

    renews = True  # a refused one is asked for once more

    def __init__(self, auth: OAuth, client: str, password: str, post: Post) -> None:
        self._auth, self._client, self._password, self._post = auth, client, password, post
        self._token, self._until_s = "", 0.0

    def __call__(self, anew: bool) -> Signed:
        if anew or time.monotonic() >= self._until_s:
            self._renew()
        return Signed({"Authorization": f"Bearer {self._token}"}, {}, (self._token,))

    def _renew(self) -> None:
        coded = base64.b64encode(f"{quote(self._client, safe='')}:{quote(self._password, safe='')}".encode()).decode()
        form = {"grant_type": "client_credentials"} | ({"scope": self._auth.scope} if self._auth.scope else {})
        asked_s = time.monotonic()
        headers = {"Authorization": f"Basic {coded}", "Accept": "application/json"}
        answer = self._post(self._auth.token_url, form, headers, (self._password, coded))
        try:
            found = parse_json(answer.body)
        except ValueError:
            found = None
        token = found.get("access_token") if isinstance(found, dict) else None
        if not isinstance(token, str) or not token:
            raise OriginError(
                f"{self._auth.token_url} gives no access_token for the credential {self._auth.credential}"
            )
        lasts = found.get("expires_in")
        lasts_s = float(lasts) if isinstance(lasts, int | str) and str(lasts).isdigit() else SHORTEST_S + MARGIN_S
        self._token, self._until_s = token, asked_s + max(lasts_s - MARGIN_S, lasts_s / 2)


Auth = Bearer | Basic | ApiKey | OAuth


def _pair(secret: str, name: str, holds: str) -> tuple[str, str]:
    user, colon, password = secret.partition(":")
    if not colon or not user:
        raise OriginError(f"the credential {name} must be {holds}, with a colon between the two")
    return user, password
