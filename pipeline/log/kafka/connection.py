"""Connection to Kafka: one value, and the one place that makes the arguments of our Kafka clients from it.

    a client's security arguments = connection.arguments()        for every client that is opened here

Settings that contradict each other are refused when the value is made, before any broker is asked; files are looked at by `check_files`.
No repr and no error shows the password.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from pipeline.base.errors import SettingsError

PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
NO_SECRET = SecretStr("")


class Unshown(str):
    """A text that kafka-python may use and not show: it logs its whole configuration at the level DEBUG."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"

    def __getitem__(self, part: Any) -> str:
        return Unshown(super().__getitem__(part))  # what shortens long texts shows no part of it either


@dataclass(frozen=True)
class KafkaConnection:
    """Bootstrap servers (host:port[,host:port...]) and how to be let in. Fields are named as the settings, without `kafka_`.

    '' is "not set". SettingsError when the settings do not go together: it names the setting, and what would be allowed.
    """

    bootstrap: str
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str = ""
    username: str = ""
    password: SecretStr = field(default=NO_SECRET, repr=False)
    ssl_cafile: str = ""  # '': the authorities that the operating system trusts
    ssl_certfile: str = ""
    ssl_keyfile: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "security_protocol", (self.security_protocol or "PLAINTEXT").upper())
        object.__setattr__(self, "sasl_mechanism", self.sasl_mechanism.upper())
        if self.security_protocol not in PROTOCOLS:
            raise SettingsError(
                f"{_setting('security_protocol')} is {self.security_protocol!r}; allowed are {', '.join(PROTOCOLS)}"
            )
        self._check_sasl()
        self._check_tls()

    @classmethod
    def of(cls, kafka: KafkaConnection | str) -> KafkaConnection:
        """Bootstrap servers alone are a connection without TLS and without SASL."""
        return kafka if isinstance(kafka, KafkaConnection) else cls(kafka)

    @property
    def tls(self) -> bool:
        """True when the connection is encrypted: SSL or SASL_SSL."""
        return self.security_protocol.endswith("SSL")

    @property
    def sasl(self) -> bool:
        """True when the broker asks for a user name and a password: SASL_PLAINTEXT or SASL_SSL."""
        return self.security_protocol.startswith("SASL")

    @property
    def user(self) -> str:
        """Name that the broker takes us for, as its administrator's tools want it where that is known here."""
        if self.sasl:
            return f"User:{self.username}"
        return "User:<subject of the client certificate>" if self.ssl_certfile else "User:ANONYMOUS"

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments for a consumer, producer or admin client of kafka-python; files by name, so that a renewed one is taken."""
        given: dict[str, Any] = {"security_protocol": self.security_protocol}
        if self.sasl:
            given["sasl_mechanism"] = self.sasl_mechanism
            given["sasl_plain_username"] = self.username
            given["sasl_plain_password"] = Unshown(self.password.get_secret_value())
        if self.tls:
            given |= {name: getattr(self, name) or None for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile")}
        return given

    def check_files(self) -> None:
        """SettingsError when a file of TLS is not there or is not what it must be: kafka-python would take that for a silent broker."""
        if self.tls:
            self.tls_context()

    def tls_context(self) -> ssl.SSLContext:
        """As kafka-python makes it, for a probe: verifies the broker's certificate and its name."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.ssl_cafile:
            _readable("ssl_cafile", self.ssl_cafile)
            try:
                context.load_verify_locations(self.ssl_cafile)
            except ssl.SSLError:
                raise SettingsError(
                    f"{_setting('ssl_cafile')}: {self.ssl_cafile} holds no certificate of an authority in PEM (-----BEGIN CERTIFICATE-----)"
                ) from None
        else:
            context.load_default_certs()
        if self.ssl_certfile:
            self._load_own(context)
        return context

    def _load_own(self, context: ssl.SSLContext) -> None:
        _readable("ssl_certfile", self.ssl_certfile)
        _readable("ssl_keyfile", self.ssl_keyfile or self.ssl_certfile)
        try:
            context.load_cert_chain(self.ssl_certfile, self.ssl_keyfile or None, password=_no_passphrase)
        except SettingsError:
            raise
        except ssl.SSLError as error:
            key = self.ssl_keyfile or self.ssl_certfile
            why = (
                "the key belongs to another certificate"
                if error.reason == "KEY_VALUES_MISMATCH"
                else "each must be PEM"
            )
            raise SettingsError(
                f"{_setting('ssl_certfile')} and {_setting('ssl_keyfile')}: {self.ssl_certfile} and {key} are no certificate with its"
                f" private key: {why}"
            ) from None

    def _check_sasl(self) -> None:
        if not self.sasl:
            for name, value in (
                ("sasl_mechanism", self.sasl_mechanism),
                ("username", self.username),
                ("password", self._secret),
            ):
                if value:
                    raise SettingsError(
                        f"{_setting(name)} is set, and {_setting('security_protocol')} is {self.security_protocol}, which sends no user"
                        f" name: set kafka_security_protocol to SASL_SSL (or SASL_PLAINTEXT, where nobody can listen)"
                    )
            return
        if self.sasl_mechanism not in MECHANISMS:
            found = f"is {self.sasl_mechanism!r}" if self.sasl_mechanism else "is not set"
            raise SettingsError(
                f"{_setting('sasl_mechanism')} {found}, and {self.security_protocol} needs one of {', '.join(MECHANISMS)}"
            )
        if not self.username:
            raise SettingsError(f"{_setting('username')} is not set, and {self.security_protocol} needs a user name")
        if not self._secret:
            raise SettingsError(
                f"{_setting('password')} is not set, and {self.security_protocol} needs one: set it, or WATERSHED_KAFKA_PASSWORD_FILE to"
                f" a file that holds it"
            )

    def _check_tls(self) -> None:
        for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile"):
            if getattr(self, name) and not self.tls:
                raise SettingsError(
                    f"{_setting(name)} is set, and {_setting('security_protocol')} is {self.security_protocol}, which uses no TLS: set"
                    f" kafka_security_protocol to {'SASL_SSL' if self.sasl else 'SSL'}"
                )
        if self.ssl_keyfile and not self.ssl_certfile:
            raise SettingsError(f"{_setting('ssl_keyfile')} is set without {_setting('ssl_certfile')}: set both")

    @property
    def _secret(self) -> str:
        return self.password.get_secret_value()


def _setting(name: str) -> str:
    """A setting as a user finds it: in luigi.cfg and in the environment."""
    return f"kafka_{name} (WATERSHED_KAFKA_{name.upper()})"


def _readable(name: str, file: str) -> None:
    try:
        Path(file).read_bytes()
    except OSError as error:
        raise SettingsError(
            f"{_setting(name)}: {file} cannot be read ({error.strerror}); set it to a PEM file that we may read"
        ) from None


def _no_passphrase() -> str:
    """Asked for when the key is encrypted; without it OpenSSL would ask the terminal, and wait."""
    raise SettingsError(
        f"{_setting('ssl_keyfile')}: the private key is encrypted, and no setting holds a passphrase: write it without one"
        f" (openssl pkey -in FILE -out NEW) into a file that only this user may read"
    )
