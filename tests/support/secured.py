"""One real broker with every kind of listener, an authorizer, and users; connections to it, right and wrong.

Invariant: a user may do on it what `allow` has said, and nothing else; whoever comes without a name is its administrator.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

from kafka import KafkaAdminClient
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ResourcePattern,
    ResourceType,
    UserScramCredentialUpsertion,
)
from pydantic import SecretStr

from pipeline.log.kafka.connection import KafkaConnection
from sandbox.kafka import RealKafka
from tests.support.certificates import Authority
from tests.support.system import ROOT

LISTENERS = {
    "USERS": "SASL_PLAINTEXT",
    "USERSTLS": "SASL_SSL",
    "TLS": "SSL",
    "MUTUAL": "SSL",
    "EXPIRED": "SSL",
    "ELSEWHERE": "SSL",
}
USERS = ("worker", "stranger", "lonely", "leaver")
MODULES = "org.apache.kafka.common.security"
OPERATIONS = {
    "DescribeConfigs": ACLOperation.DESCRIBE_CONFIGS,
    "Read": ACLOperation.READ,
    "Create": ACLOperation.CREATE,
    "Describe": ACLOperation.DESCRIBE,
    "Write": ACLOperation.WRITE,
}


def documented_acls() -> list[tuple[str, str]]:
    """(operation, resource type) of the table in docs/SETTINGS.md."""
    table = (ROOT / "docs/SETTINGS.md").read_text().split("## The ACLs")[1].split("## ")[0]
    return re.findall(r"^\| `(\w+)` \| (topic|group), ", table, re.MULTILINE)


class Secured:
    """The broker in `folder`, its authorities and its certificates."""

    def __init__(self, folder: Path) -> None:
        self.password = f"marked{uuid.uuid4().hex}"
        self.authority, self.other = Authority(folder / "tls"), Authority(folder / "tls", "other")
        self.client = self.authority.issue("worker")
        self.old_client = self.authority.issue("worker-of-yesterday", valid=timedelta(days=-1))
        self.foreign_client = self.other.issue("foreigner")
        self.kafka = RealKafka(folder / "kafka", settings=self._settings(), listeners=LISTENERS)

    def _settings(self) -> dict[str, str]:
        users = " ".join(f'user_{name}="{self.password}"' for name in USERS)
        settings = {
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            "listener.name.mutual.ssl.client.auth": "required",
            "listener.name.mutual.ssl.truststore.type": "PEM",
            "listener.name.mutual.ssl.truststore.location": str(self.authority.cafile),
        }
        for name in ("users", "userstls"):
            settings[f"listener.name.{name}.sasl.enabled.mechanisms"] = "PLAIN,SCRAM-SHA-512"
            settings[f"listener.name.{name}.plain.sasl.jaas.config"] = (
                f"{MODULES}.plain.PlainLoginModule required {users};"
            )
            settings[f"listener.name.{name}.scram-sha-512.sasl.jaas.config"] = (
                f"{MODULES}.scram.ScramLoginModule required;"
            )
        broker = self.authority.issue("broker")[2]
        for name, keys in {
            **dict.fromkeys(("userstls", "tls", "mutual"), broker),
            "expired": self.authority.issue("broker-of-yesterday", valid=timedelta(days=-1))[2],
            "elsewhere": self.authority.issue("elsewhere", host="192.0.2.1")[2],
        }.items():
            settings |= {
                f"listener.name.{name}.ssl.keystore.type": "PEM",
                f"listener.name.{name}.ssl.keystore.location": str(keys),
            }
        return settings

    def add_users(self) -> None:
        """SCRAM users; those of PLAIN stand in the broker's configuration."""
        self.set_passwords(dict.fromkeys(USERS, self.password))

    def set_passwords(self, of: dict[str, str]) -> None:
        """user -> password, for SCRAM."""
        with closing(KafkaAdminClient(bootstrap_servers=self.kafka.bootstrap)) as admin:
            wanted = [UserScramCredentialUpsertion(name, "SCRAM-SHA-512", password) for name, password in of.items()]
            failed = {user: why for user, why in admin.alter_user_scram_credentials(wanted).items() if why}
            assert not failed

    def allow(self, user: str, acls: Iterable[tuple[str, str, str]]) -> None:
        """ACLs (operation, resource type, resource) for a user's name."""
        with closing(KafkaAdminClient(bootstrap_servers=self.kafka.bootstrap)) as admin:
            wanted = [
                ACL(
                    f"User:{user}",
                    "*",
                    OPERATIONS[operation],
                    ACLPermissionType.ALLOW,
                    ResourcePattern(ResourceType[kind.upper()], name),
                )
                for operation, kind, name in acls
            ]
            done = admin.create_acls(wanted)
            assert not done["failed"], done

    def connection(self, listener: str, **differently: Any) -> KafkaConnection:
        """The right way in at that listener, but for what is given `differently`."""
        right: dict[str, Any] = {"security_protocol": LISTENERS[listener]}
        if "SASL" in LISTENERS[listener]:
            right |= {"sasl_mechanism": "SCRAM-SHA-512", "username": "worker", "password": self.password}
        if "SSL" in LISTENERS[listener]:
            right["ssl_cafile"] = str(self.authority.cafile)
        if listener == "MUTUAL":
            right |= {"ssl_certfile": str(self.client[0]), "ssl_keyfile": str(self.client[1])}
        given = {**right, **differently}
        given["password"] = SecretStr(given.get("password", ""))
        return KafkaConnection(self.kafka.address(listener), **given)


def environment(connection: KafkaConnection) -> dict[str, str]:
    """The connection as settings."""
    names = ("security_protocol", "sasl_mechanism", "username", "ssl_cafile", "ssl_certfile", "ssl_keyfile")
    found = {f"WATERSHED_KAFKA_{name.upper()}": str(getattr(connection, name)) for name in names}
    return {
        "WATERSHED_KAFKA": connection.bootstrap,
        **found,
        "WATERSHED_KAFKA_PASSWORD": connection.password.get_secret_value(),
    }
