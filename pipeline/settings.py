"""Settings: where Kafka, Postgres, the lake and the views are.

    value = environment (WATERSHED_*) or .env or luigi.cfg [watershed] or .watershed/services.env (what `watershed up` started) or default

The Postgres URL may hold a password: it is a SecretStr, so that no log or repr shows it.
"""

import configparser
import importlib
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, DotEnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from pipeline.definition import Source, View
from pipeline.errors import DefinitionError, SettingsError

SERVICES = ".watershed/services.env"
LUIGI_CFG = ("/etc/luigi/client.cfg", "/etc/luigi/luigi.cfg", "client.cfg", "luigi.cfg")


class LuigiCfg(PydanticBaseSettingsSource):
    """Section [watershed] of the luigi.cfg that luigi itself would read."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        parser = configparser.ConfigParser(interpolation=None)
        files = [*LUIGI_CFG, os.environ.get("LUIGI_CONFIG_PATH", "")]
        try:
            parser.read(files, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError) as error:
            said = " ".join(str(error).split())
            raise SettingsError(f"luigi.cfg cannot be read: {said}; allowed are [sections] of name = value") from None
        return {k: v for k, v in parser.items("watershed") if v} if parser.has_section("watershed") else {}


class Settings(BaseSettings):
    """`kafka`: bootstrap servers; `postgres`: URL; `lake`: a folder or an s3:// URL; `views`: an importable module."""

    model_config = SettingsConfigDict(env_prefix="WATERSHED_", env_file=".env", extra="ignore")

    kafka: str | None = None
    postgres: SecretStr | None = None
    lake: str = "lake"
    views: str = "views"
    snapshot_every_s: float = Field(default=60.0, gt=0)  # how much of the log a takeover replays at most
    start_patience_s: float = Field(default=60.0, ge=0)  # how long a worker that starts waits for a Postgres or Kafka that does not answer
    night_partitions: int = Field(default=max(1, (os.cpu_count() or 1) // 2), gt=0)  # that a night takes side by side
    metrics_port: int = Field(default=0, ge=0, le=65535)  # 0: none
    metrics_host: str = "127.0.0.1"

    @classmethod
    def settings_customise_sources(  # type: ignore[override]  # the sources are passed by name
        cls, settings_cls: type[BaseSettings], **sources: PydanticBaseSettingsSource
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        started = DotEnvSettingsSource(settings_cls, env_file=SERVICES)
        return sources["init_settings"], sources["env_settings"], sources["dotenv_settings"], LuigiCfg(settings_cls), started

    @classmethod
    def load(cls) -> "Settings":
        """The settings as they are now; SettingsError names the one that cannot be."""
        try:
            return cls()
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0]) if first["loc"] else "settings"
            raise SettingsError(f"setting {name} (WATERSHED_{name.upper()}): {first['msg']}, found {first.get('input')!r}") from None
        except UnicodeDecodeError as error:
            raise SettingsError(f"a .env file cannot be read: {error}; write it in UTF-8") from None

    def kafka_servers(self) -> str:
        """The bootstrap servers; SettingsError when none are set."""
        if not self.kafka:
            raise SettingsError(_missing("kafka", "localhost:9092"))
        return self.kafka

    def postgres_url(self) -> str:
        """The URL with its password; SettingsError when none is set. Never log it."""
        if self.postgres is None or not self.postgres.get_secret_value():
            raise SettingsError(_missing("postgres", "postgresql://user@localhost/watershed"))
        return self.postgres.get_secret_value()

    def load_views(self) -> tuple[View, ...]:
        """VIEWS of the views module, checked: at least one, distinct names, one Source per topic."""
        return load_views(self.views)


def _missing(name: str, example: str) -> str:
    return (
        f"no {name} is set: write `{name} = {example}` under [watershed] in luigi.cfg, or set WATERSHED_{name.upper()};"
        f" or run `watershed up` in this folder, which starts embedded services"
    )


def load_views(module: str) -> tuple[View, ...]:
    """The tuple VIEWS of an importable module; DefinitionError when it is not what it must be."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # as luigi --module does
    if not module or module.startswith("."):
        raise SettingsError(f"`views` (WATERSHED_VIEWS) is {module!r}; allowed is the name of an importable module, as `views`")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise DefinitionError(f"views module {module!r} imports {error.name!r}, which cannot be found; install it") from None
        raise DefinitionError(
            f"views module {module!r} cannot be found; set `views` (WATERSHED_VIEWS) to a module importable from {here}"
        ) from None
    except SyntaxError as error:
        raise DefinitionError(f"views module {module!r}: {error.msg} at {error.filename}:{error.lineno}") from None
    except DefinitionError as error:
        raise DefinitionError(f"{error} (at {_place(error)})") from None
    except Exception as error:  # whatever a user's module raises is theirs to mend
        raise DefinitionError(f"views module {module!r} cannot be imported: {type(error).__name__}: {error}, at {_place(error)}") from None
    views = getattr(found, "VIEWS", None)
    if not isinstance(views, tuple) or not views or not all(isinstance(v, View) for v in views):
        raise DefinitionError(f"views module {module!r} must declare VIEWS = (view, ...), a tuple of View values; it has {views!r}")
    names = [v.name for v in views]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise DefinitionError(f"views module {module!r} has two views named {twice[0]!r}; rename one")
    by_topic: dict[str, Source] = {}
    for view in views:
        if by_topic.setdefault(view.source.topic, view.source) != view.source:
            raise DefinitionError(f"views module {module!r} has two different Sources for topic {view.source.topic!r}; a topic has one")
    return views


def _place(error: BaseException) -> str:
    """file:line of the innermost frame that is neither the import machinery's nor ours."""
    ours = str(Path(__file__).parent)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "importlib" not in f.filename and not f.filename.startswith(ours)]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "an unknown line"


def by_source(views: tuple[View, ...]) -> dict[str, tuple[View, ...]]:
    """topic -> its views, in order of declaration."""
    return {topic: tuple(v for v in views if v.source.topic == topic) for topic in dict.fromkeys(v.source.topic for v in views)}
