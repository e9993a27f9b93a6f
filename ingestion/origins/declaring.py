"""Words and checks that the declarations of origins share.

describe(a) = describe(b)  <=>  a = b        and a setting left at its default is not in it
"""

import re
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from pipeline.base.declared import Declared
from pipeline.base.errors import DefinitionError, OriginError

NAME = re.compile(r"[A-Z][A-Z0-9_]*(?<!_FILE)")


class Declaration(metaclass=Declared):
    """Base of origins whose fields are all there is to say of them, and whose values have types."""

    @property
    def textual(self) -> bool:
        """False; see Origin.textual."""
        return False

    def describe(self) -> Mapping[str, Any]:
        """The declaration; see Origin.describe."""
        return described(self)


def described(origin: Any) -> dict[str, Any]:
    """A declaration as JSON: the name of its class, and its fields that are not at their defaults."""
    found: dict[str, Any] = {"kind": type(origin).__name__}
    for one in fields(origin):
        value = getattr(origin, one.name)
        if value != _default(one):
            found[one.name] = _json(value)
    return found


def _default(one: Field[Any]) -> Any:
    if one.default_factory is not MISSING:
        return one.default_factory()
    return one.default


def _json(value: Any) -> Any:
    if is_dataclass(value):
        return described(value)
    if isinstance(value, Mapping):
        return {name: _json(one) for name, one in value.items()}
    return [_json(one) for one in value] if isinstance(value, list | tuple) else value


def credential(name: Any, whose: str) -> None:
    """DefinitionError unless it is the name of a credential; the usual mistake is to write the secret itself, which is not quoted."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise DefinitionError(
            f"{whose} names a credential: capitals, digits and _, not ending in _FILE, such as 'WAREHOUSE', whose secret is in"
            " WATERSHED_ORIGIN_WAREHOUSE; never the secret itself"
        )


def is_text(value: Any, name: str, example: str) -> None:
    """DefinitionError unless it is a text with something in it."""
    if not isinstance(value, str) or not value.strip():
        raise DefinitionError(f"{name} is {value!r}; it must be a text, such as {example!r}")


def at_least(value: Any, name: str, least: float) -> None:
    """DefinitionError unless it is a number and not less than that."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= least:
        raise DefinitionError(f"{name} is {value!r}; it must be a number of at least {least:g}")


def http_url(url: Any, name: str = "url") -> None:
    """DefinitionError unless it is an http(s) URL without a password in it."""
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
        host, _ = (parts.hostname, parts.port) if parts else (None, None)
    except ValueError:
        host = parts = None
    if parts is None or parts.scheme not in ("http", "https") or not host:
        raise DefinitionError(f"{name} must be a URL such as 'https://api.example.com/rates'")
    if parts.username is not None or parts.password is not None:
        raise DefinitionError(f"{name} holds a user or password; name a credential instead: auth=Basic('NAME')")


def texts_by_name(value: Any, name: str, example: Mapping[str, str]) -> None:
    """DefinitionError unless it is a mapping of names to texts."""
    if not isinstance(value, Mapping) or not all(isinstance(k, str) and isinstance(v, str) for k, v in value.items()):
        raise DefinitionError(f"{name} must be texts by name, such as {dict(example)!r}")


def need(module: str, what_for: str) -> Any:
    """A library of the extra `sources`; OriginError with the command that installs it where it is not there."""
    try:
        return import_module(module)
    except ImportError:
        raise OriginError(
            f"{what_for} needs {module.partition('.')[0]}, which is not installed: run `pip install '.[sources]'` in a clone of Watershed",
            repair="pip install '.[sources]'",
        ) from None
