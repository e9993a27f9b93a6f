"""Settings: where Kafka, Postgres, the lake and the views are.

    value = environment (WATERSHED_*) or .env or luigi.cfg [watershed] or .watershed/services.env (what `watershed up` noted) or default

    a secret = its text, or what the file holds that WATERSHED_..._FILE (in luigi.cfg: ..._file) names; both at one place are refused

    a credential of an origin = WATERSHED_ORIGIN_<NAME> or its file, found at the same places; in luigi.cfg in section [origins]

A secret is a SecretStr, so that no log or repr shows it.
"""

import configparser
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from pipeline.base.errors import SettingsError, did_you_mean
from pipeline.decode.registry import Registry
from pipeline.definition.table import Table
from pipeline.definition.view import View
from pipeline.definition.views_module import load_tables, load_views
from pipeline.kernels import cache
from pipeline.log.kafka.connection import NO_SECRET, KafkaConnection

SERVICES = ".watershed/services.env"
ORIGIN = "watershed_origin_"
LUIGI_CFG = ("/etc/luigi/client.cfg", "/etc/luigi/luigi.cfg", "client.cfg", "luigi.cfg")


class LuigiCfg(PydanticBaseSettingsSource):
    """Section [watershed] of the luigi.cfg that luigi itself would read."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        found = luigi_section("watershed")
        return found | secrets_of_files(self.settings_cls, found, "", "luigi.cfg")


def luigi_section(name: str) -> dict[str, str]:
    """Settings of a section of luigi.cfg, names in lower case; empty where there is none, SettingsError where it cannot be read."""
    parser = configparser.ConfigParser(interpolation=None)
    files = [*LUIGI_CFG, os.environ.get("LUIGI_CONFIG_PATH", "")]
    try:
        parser.read(files, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError) as error:
        said = " ".join(str(error).split())
        raise SettingsError(f"luigi.cfg cannot be read: {said}; allowed are [sections] of name = value") from None
    return {k: v for k, v in parser.items(name) if v} if parser.has_section(name) else {}


class SecretFiles(PydanticBaseSettingsSource):
    """Secrets from the files that variables WATERSHED_..._FILE name, beside the variables of one other source."""

    def __init__(self, settings_cls: type[BaseSettings], beside: PydanticBaseSettingsSource, where: str) -> None:
        super().__init__(settings_cls)
        self._variables: Mapping[str, str | None] = getattr(beside, "env_vars", {})
        self._where = where

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        return secrets_of_files(self.settings_cls, self._variables, "watershed_", self._where)


def secrets_of_files(
    settings_cls: type[BaseSettings], named: Mapping[str, str | None], prefix: str, where: str
) -> dict[str, SecretStr]:
    """The secrets whose files `named` names (lower case); SettingsError when one cannot be used, or is given twice."""
    found: dict[str, SecretStr] = {}
    for name, field in settings_cls.model_fields.items():
        file = named.get(f"{prefix}{name}_file")
        if field.annotation != SecretStr | None or not file:
            continue
        if named.get(prefix + name):
            raise SettingsError(
                f"{where} sets both {_shown(prefix + name)} and {_shown(f'{prefix}{name}_file')}: set one of them"
            )
        found[name] = SecretStr(_one_line(file, f"{_shown(f'{prefix}{name}_file')} in {where}"))
    return found


def _shown(name: str) -> str:
    return name.upper() if name.startswith("watershed_") else name


def _one_line(file: str, setting: str) -> str:
    """The text of a file without the line's end that an editor leaves; never part of an error."""
    try:
        text = Path(file).expanduser().read_text(encoding="utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise SettingsError(
            f"{setting}: {file} is no text in UTF-8; it must hold the secret and nothing else"
        ) from None
    except OSError as error:
        raise SettingsError(
            f"{setting}: {file} cannot be read ({error.strerror}); name a file that this user may read"
        ) from None
    if not text or "\n" in text:
        raise SettingsError(
            f"{setting}: {file} {'holds several lines' if text else 'is empty'}; it must hold the secret, on one line"
        )
    return text


class Settings(BaseSettings):
    """`kafka`: bootstrap servers; `postgres`: URL; `lake`: a folder or an s3:// URL; `views`: an importable module.

    docs/SETTINGS.md tells of each. A field of the type SecretStr | None is a secret: it may be in a file, and is never shown.
    """

    model_config = SettingsConfigDict(
        env_prefix="WATERSHED_", env_file=".env", extra="ignore", hide_input_in_errors=True
    )

    kafka: str | None = None
    kafka_security_protocol: str | None = None
    kafka_sasl_mechanism: str | None = None
    kafka_username: str | None = None
    kafka_password: SecretStr | None = None
    kafka_ssl_cafile: str | None = None
    kafka_ssl_certfile: str | None = None
    kafka_ssl_keyfile: str | None = None
    schema_registry: SecretStr | None = None  # its URL may hold a password
    schema_registry_username: str | None = None
    schema_registry_password: SecretStr | None = None
    postgres: SecretStr | None = None
    lake: str = "lake"
    lake_url: str | None = None  # where the lake's manifests are served over HTTP: tasks.luigid does, below /lake
    views: str = "views"
    snapshot_every_s: float = Field(default=60.0, gt=0)  # how much of the log a takeover replays at most
    # How long a worker that starts, and each transaction and question of a night or command, waits for a Postgres or Kafka that is away.
    start_patience_s: float = Field(default=60.0, ge=0)
    night_partitions: int = Field(default=max(1, (os.cpu_count() or 1) // 2), gt=0)  # that a night takes side by side
    load_readers: int = Field(default=2, gt=0)  # parts of an origin that a load reads side by side
    metrics_port: int = Field(default=0, ge=0, le=65535)  # 0: none
    metrics_host: str = "127.0.0.1"
    api_token: SecretStr | None = None  # of `watershed serve`
    push_body_bytes: int = Field(default=16 * 1024 * 1024, gt=0)  # of a request, packed and unpacked
    push_events: int = Field(default=10_000, gt=0)  # of a request
    push_event_bytes: int = Field(default=1_000_000, gt=0)
    push_in_flight_bytes: int = Field(default=64 * 1024 * 1024, gt=0)  # taken in and not acknowledged, of all requests
    push_timeout_s: float = Field(default=10.0, ge=1)  # for Kafka to acknowledge
    kernel_cache: str | None = None  # the folder of compiled code; see kernels.cache

    @classmethod
    def settings_customise_sources(  # type: ignore[override]  # the sources are passed by name
        cls, settings_cls: type[BaseSettings], **sources: PydanticBaseSettingsSource
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        started = DotEnvSettingsSource(settings_cls, env_file=SERVICES)
        environment, dotenv = sources["env_settings"], sources["dotenv_settings"]
        written = (
            environment,
            SecretFiles(settings_cls, environment, "the environment"),
            dotenv,
            SecretFiles(settings_cls, dotenv, ".env"),
        )
        files = SecretFiles(settings_cls, started, SERVICES)
        return sources["init_settings"], *written, LuigiCfg(settings_cls), started, files

    @classmethod
    def load(cls) -> "Settings":
        """The settings as they are now, and compiled code goes where they say; SettingsError names the one that cannot be."""
        try:
            found = cls()
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0]) if first["loc"] else "settings"
            field = cls.model_fields.get(name)
            shown = "" if field is None or field.annotation == SecretStr | None else f", found {first.get('input')!r}"
            raise SettingsError(f"setting {name} (WATERSHED_{name.upper()}): {first['msg']}{shown}") from None
        except UnicodeDecodeError as error:
            raise SettingsError(f"a .env file cannot be read: {error}; write it in UTF-8") from None
        cache.keep_in(found.kernel_cache)
        return found

    def kafka_connection(self) -> KafkaConnection:
        """Bootstrap servers and credentials; SettingsError when no servers are set, or the settings do not go together."""
        if not self.kafka:
            self.refuse_security_for_nobody()
            raise SettingsError(_missing("kafka", "localhost:9092"))
        return KafkaConnection(
            self.kafka,
            security_protocol=self.kafka_security_protocol or "",
            sasl_mechanism=self.kafka_sasl_mechanism or "",
            username=self.kafka_username or "",
            password=self.kafka_password or NO_SECRET,
            ssl_cafile=_path(self.kafka_ssl_cafile),
            ssl_certfile=_path(self.kafka_ssl_certfile),
            ssl_keyfile=_path(self.kafka_ssl_keyfile),
        )

    def refuse_security_for_nobody(self) -> None:
        """SettingsError when kafka_... is set and `kafka` is not: the embedded broker knows neither TLS nor users."""
        given = [name for name in type(self).model_fields if name.startswith("kafka_") and getattr(self, name)]
        if given and not self.kafka:
            raise SettingsError(
                f"{given[0]} (WATERSHED_{given[0].upper()}) is set, and kafka (WATERSHED_KAFKA) is not: set kafka to the broker's"
                f" host:port, or unset {', '.join(given)}"
            )

    def postgres_url(self) -> str:
        """The URL with its password; SettingsError when none is set. Never log it."""
        if self.postgres is None or not self.postgres.get_secret_value():
            raise SettingsError(_missing("postgres", "postgresql://user@localhost/watershed"))
        return self.postgres.get_secret_value()

    def registry(self) -> Registry | None:
        """The schema registry, None where none is set; SettingsError when its settings do not go together."""
        if self.schema_registry is None or not self.schema_registry.get_secret_value():
            return None
        if self.schema_registry_password is not None and not self.schema_registry_username:
            raise SettingsError(
                "schema_registry_password (WATERSHED_SCHEMA_REGISTRY_PASSWORD) is set, and schema_registry_username is not: set both"
            )
        url = self.schema_registry.get_secret_value()
        return Registry(url, self.schema_registry_username or "", self.schema_registry_password)

    def origin_secret(self, name: str) -> SecretStr:
        """The credential of that name, which an origin names and never holds; SettingsError says which setting to make."""
        return find_origin_secret(name)

    def load_views(self) -> tuple[View, ...]:
        """VIEWS of the views module, checked: at least one, distinct names, one Source per topic."""
        return load_views(self.views)

    def load_tables(self) -> tuple[Table, ...]:
        """TABLES of the views module and the tables that its views look up, checked: distinct names."""
        return load_tables(self.views)


def find_origin_secret(name: str) -> SecretStr:
    """The credential as the environment, .env, luigi.cfg or services.env have it, the first of them; SettingsError where none does."""
    lower, known = name.lower(), set[str]()
    for where, prefix, named in _origin_secrets():
        text, file = named.get(prefix + lower), named.get(f"{prefix}{lower}_file")
        shown = [_shown(prefix + lower), _shown(f"{prefix}{lower}_file")]
        if text and file:
            raise SettingsError(f"{where} sets both {shown[0]} and {shown[1]}: set one of them")
        if text or file:
            return SecretStr(text or _one_line(str(file), f"{shown[1]} in {where}"))
        names = (one.removeprefix(prefix).removesuffix("_file") for one in named if one.startswith(prefix))
        known |= {one.upper() for one in names}
    variable = f"WATERSHED_ORIGIN_{name.upper()}"
    there = f"; set are {', '.join(sorted(known))}." if known else ""
    raise SettingsError(
        f"no credential {name} is set: set {variable}, or name a file that holds it by {variable}_FILE, or write `{lower} = ...` under"
        f" [origins] in luigi.cfg{there}{did_you_mean(name.upper(), sorted(known))}"
    )


def _origin_secrets() -> list[tuple[str, str, Mapping[str, str | None]]]:
    """(place, prefix, names in lower case), in the order in which they count."""
    try:
        files = [(file, DotEnvSettingsSource(Settings, env_file=file).env_vars) for file in (".env", SERVICES)]
    except UnicodeDecodeError as error:
        raise SettingsError(f"a .env file cannot be read: {error}; write it in UTF-8") from None
    dotenv, started = ((file, ORIGIN, named) for file, named in files)
    luigi: Mapping[str, str | None] = {**luigi_section("origins")}
    return [
        ("the environment", ORIGIN, EnvSettingsSource(Settings).env_vars),
        dotenv,
        ("luigi.cfg", "", luigi),
        started,
    ]


def _path(file: str | None) -> str:
    return str(Path(file).expanduser()) if file else ""


def _missing(name: str, example: str) -> str:
    return (
        f"no {name} is set: write `{name} = {example}` under [watershed] in luigi.cfg, or set WATERSHED_{name.upper()};"
        f" or run `watershed up` in this folder, which starts embedded services"
    )


def by_source(views: tuple[View, ...]) -> dict[str, tuple[View, ...]]:
    """topic -> its views, in order of declaration."""
    return {
        topic: tuple(v for v in views if v.source.topic == topic)
        for topic in dict.fromkeys(v.source.topic for v in views)
    }
