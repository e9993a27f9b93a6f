"""Credentials of origins: found at the places where every secret is, in their order, and shown nowhere."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
from pydantic import SecretStr

from pipeline.base.errors import SettingsError
from pipeline.settings import Settings


@pytest.fixture(autouse=True)
def nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("WATERSHED_") or name == "LUIGI_CONFIG_PATH"]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(name: str = "WAREHOUSE") -> str:
    return Settings.load().origin_secret(name).get_secret_value()


def test_the_first_place_that_has_a_credential_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two", "three", "four"):
        (tmp_path / name).write_text(f"{name}\n")
    (tmp_path / ".watershed").mkdir()
    (tmp_path / ".watershed/services.env").write_text("WATERSHED_ORIGIN_WAREHOUSE_FILE=four\n")
    assert found() == "four"
    (tmp_path / "luigi.cfg").write_text("[origins]\nWAREHOUSE_file = three\n[watershed]\nwarehouse = not this\n")
    assert found() == "three"
    (tmp_path / "luigi.cfg").write_text("[origins]\nwarehouse = cfg % #1\n")
    assert found() == "cfg % #1"
    (tmp_path / ".env").write_text("WATERSHED_ORIGIN_WAREHOUSE_FILE=two\n")
    assert found() == "two"
    (tmp_path / ".env").write_text("WATERSHED_ORIGIN_WAREHOUSE=dotenv\n")
    assert found() == "dotenv"
    monkeypatch.setenv("WATERSHED_ORIGIN_WAREHOUSE_FILE", str(tmp_path / "one"))
    assert found() == "one"
    monkeypatch.delenv("WATERSHED_ORIGIN_WAREHOUSE_FILE")
    monkeypatch.setenv("WATERSHED_ORIGIN_WAREHOUSE", "direct")
    assert found() == "direct"
    monkeypatch.setenv("WATERSHED_ORIGIN_WAREHOUSE", "")
    assert found() == "dotenv", "an empty one is none"


def test_a_missing_credential_says_what_to_set_and_which_name_was_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        SettingsError, match=r"WATERSHED_ORIGIN_WAREHOUSE, .*WATERSHED_ORIGIN_WAREHOUSE_FILE.*luigi\.cfg$"
    ):
        found()
    monkeypatch.setenv("WATERSHED_ORIGIN_WAREHOUSE", "hidden-word")
    with pytest.raises(SettingsError, match=r"set are WAREHOUSE\. Did you mean 'WAREHOUSE'\?") as refused:
        found("WAREHUOSE")
    assert "hidden-word" not in str(refused.value)


def test_a_credential_and_its_file_at_one_place_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATERSHED_ORIGIN_API", "hidden-word")
    monkeypatch.setenv("WATERSHED_ORIGIN_API_FILE", "anything")
    with pytest.raises(
        SettingsError, match="the environment sets both WATERSHED_ORIGIN_API and WATERSHED_ORIGIN_API_FILE"
    ) as refused:
        found("API")
    assert "hidden-word" not in str(refused.value)


@pytest.mark.parametrize(
    ("data", "said"), [(None, "cannot be read"), (b"\n", "is empty"), (b"a\nhidden-word\n", "several lines")]
)
def test_a_file_that_holds_no_credential_is_refused_and_not_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes | None, said: str
) -> None:
    if data is not None:
        (tmp_path / "secret").write_bytes(data)
    monkeypatch.setenv("WATERSHED_ORIGIN_API_FILE", str(tmp_path / "secret"))
    with pytest.raises(
        SettingsError, match=f"WATERSHED_ORIGIN_API_FILE in the environment: .*secret.* {said}"
    ) as refused:
        found("API")
    assert "hidden-word" not in str(refused.value)


def test_no_repr_shows_a_credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATERSHED_ORIGIN_API", "hidden-word")
    (tmp_path / ".env").write_text("WATERSHED_ORIGIN_OTHER=hidden-word\n")
    settings = Settings.load()
    secret = settings.origin_secret("API")
    assert isinstance(secret, SecretStr) and secret.get_secret_value() == "hidden-word"
    shown = [settings, settings.model_dump(), settings.model_dump_json(), vars(settings), secret, f"{secret}"]
    assert "hidden-word" not in repr(shown)
    assert b"hidden-word" not in pickle.dumps(settings)
