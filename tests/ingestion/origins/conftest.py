"""Servers that origins are read from: real ones, one of each for the whole run."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ingestion.origin import Reading
from ingestion.retrying import Retrier
from pipeline.base.errors import SettingsError
from sandbox.mariadb import SystemMariaDB, system_binaries
from sandbox.processes import ServerError
from tests.conftest import skip_or_fail
from tests.support.api import Api, Asked
from tests.support.databases import KINDS, World


@pytest.fixture(scope="session")
def real_mariadb(server_folder: Path) -> Iterator[SystemMariaDB]:
    """The shared MariaDB of this machine; tests want a database of their own."""
    try:
        system_binaries()
    except ServerError as error:
        skip_or_fail(str(error))
    with SystemMariaDB(server_folder / "mariadb") as mariadb:
        yield mariadb


@pytest.fixture
def mariadb_url(real_mariadb: SystemMariaDB) -> Iterator[str]:
    """The URL of an empty database of MariaDB, this test's own."""
    with real_mariadb.database(f"test_{uuid.uuid4().hex}") as url:
        yield url


@pytest.fixture
def reading() -> Callable[..., Reading]:
    """Maker of a Reading with those credentials; what is reported stands in its list `said`."""

    def made(said: list[str] | None = None, **secrets: str) -> Reading:
        def secret(name: str) -> str:
            if name not in secrets:
                raise SettingsError(f"no credential {name} is set")
            return secrets[name]

        return replace(Reading(secret), report=(said if said is not None else []).append)

    return made


@pytest.fixture(params=KINDS)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    kind = request.param
    if kind == "sqlite":
        return World(kind, f"sqlite:///{tmp_path}/data base.db")
    return World(kind, request.getfixturevalue({"postgresql": "postgres_url", "mysql": "mariadb_url"}[kind]))


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., str]:
    """Maker of a file of that name with these bytes, or this text; its path."""

    def made(name: str, data: bytes | str) -> str:
        path = tmp_path / name
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return str(path)

    return made


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[Asked], Any]], Api]]:
    with ExitStack() as stack:
        yield lambda answer: stack.enter_context(Api(answer))


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits that were asked for; none is waited."""
    waited: list[float] = []
    monkeypatch.setitem(Retrier.__init__.__kwdefaults__, "sleep", waited.append)
    return waited
