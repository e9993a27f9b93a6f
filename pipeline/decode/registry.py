"""A schema registry over HTTP, by the read calls of Confluent's API, which others answer too (Apicurio, Karapace, Redpanda).

    schema(id) = GET /schemas/ids/{id}, with what it refers to        None  <=>  the registry itself says that there is no such id

Whatever else comes back, or nothing, is RegistryAway: an id must never be held unknown because a proxy answered.
"""

import base64
import json
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from pydantic import SecretStr

from pipeline.base.errors import LogError, SettingsError
from pipeline.decode.frames import MOST_IDS
from pipeline.decode.schemas import Schema

TIMEOUT_S = 5.0
NOT_FOUND = 40403  # "Schema not found"
MOST_REFERENCES = 1000
MOST_BYTES = 64 * 2**20
ACCEPT = "application/vnd.schemaregistry.v1+json, application/json"


class RegistryAway(LogError):
    """A registry that does not answer, or not as one; it may later."""


class Registry:
    """One registry. Credentials are those in the URL, or `username` and `password`; neither is ever shown."""

    def __init__(
        self, url: str, username: str = "", password: SecretStr | None = None, timeout_s: float = TIMEOUT_S
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SettingsError(
                "setting schema_registry (WATERSHED_SCHEMA_REGISTRY): allowed is a URL as http://localhost:8081"
            )
        secret = password.get_secret_value() if password is not None else ""
        given = (username, secret) if username else (unquote(parts.username or ""), unquote(parts.password or ""))
        self._authorization = f"Basic {base64.b64encode(':'.join(given).encode()).decode()}" if given[0] else ""
        host = parts.netloc.rpartition("@")[2]
        self.url = urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
        self._timeout_s = timeout_s

    def schema(self, id: int) -> Schema | None:
        """The schema of an id, None when the registry says that it has none; RegistryAway, SettingsError where it refuses the user."""
        if not 1 <= id < MOST_IDS:  # it has none, and what it answers to such a path is not specified
            return None
        found = self._get(f"/schemas/ids/{id}")
        if found is None:
            return None
        references: dict[tuple[str, int], tuple[str, str]] = {}
        self._follow(found, references, ())
        kind, text = found.get("schemaType") or "AVRO", found.get("schema")
        if not isinstance(kind, str) or not isinstance(text, str):
            raise self._away(f"its answer about schema id {id} has no schema")
        return Schema(kind, text, tuple(references.values()))

    def _follow(
        self, found: dict[str, Any], references: dict[tuple[str, int], tuple[str, str]], above: tuple[Any, ...]
    ) -> None:
        """Add what the schema refers to, each behind what that refers to."""
        for one in found.get("references") or ():
            key = (str(one.get("subject")), int(one.get("version", 0)))
            if key in references or key in above or len(references) > MOST_REFERENCES:
                continue
            other = self._get(f"/subjects/{quote(key[0], safe='')}/versions/{key[1]}")
            if other is None or not isinstance(other.get("schema"), str):
                raise self._away(f"version {key[1]} of subject {key[0]}, which a schema refers to, is not there")
            self._follow(other, references, (*above, key))
            references[key] = (str(one.get("name")), other["schema"])

    def _get(self, path: str) -> dict[str, Any] | None:
        request = urllib.request.Request(f"{self.url}{path}", headers={"Accept": ACCEPT})
        if self._authorization:
            request.add_unredirected_header("Authorization", self._authorization)
        try:
            with urllib.request.urlopen(request, timeout=self._timeout_s) as answer:
                return self._document(answer.read(MOST_BYTES))
        except urllib.error.HTTPError as error:
            with error:
                if error.code in (401, 403):
                    raise SettingsError(
                        f"the schema registry at {self.url} refuses the user ({error.code}):"
                        " see schema_registry_username and schema_registry_password (WATERSHED_SCHEMA_REGISTRY_...)"
                    ) from None
                if error.code == 404 and self._code(error.read(MOST_BYTES)) == NOT_FOUND:
                    return None
            raise self._away(f"it answers {error.code} to GET {path}") from None
        except (OSError, ValueError) as error:
            raise self._away(str(getattr(error, "reason", error)) or type(error).__name__) from None

    def _document(self, text: bytes) -> dict[str, Any]:
        found = json.loads(text)
        if not isinstance(found, dict):
            raise ValueError("its answer is no JSON object")
        return found

    def _code(self, text: bytes) -> int:
        try:
            return int(self._document(text).get("error_code", 0))
        except (ValueError, TypeError):
            return 0

    def _away(self, why: str) -> RegistryAway:
        return RegistryAway(f"the schema registry at {self.url} is away: {why}")
