"""A private authority for tests, and certificates that it signs; as PEM files. (`cryptography` comes with moto.)"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _pem(key: ec.EllipticCurvePrivateKey, passphrase: bytes | None = None) -> bytes:
    hidden = serialization.NoEncryption() if passphrase is None else serialization.BestAvailableEncryption(passphrase)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden)


class Authority:
    """Signs certificates for 127.0.0.1 and localhost; `cafile` is what its clients trust."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self.folder, self._name = folder, _name(name)
        folder.mkdir(parents=True, exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        basic = x509.BasicConstraints(ca=True, path_length=None)
        builder = self._builder(self._name, self._key, timedelta(days=2)).add_extension(basic, critical=True)
        signed = builder.sign(self._key, hashes.SHA256())
        self.cafile = folder / f"{name}.pem"
        self.cafile.write_bytes(signed.public_bytes(serialization.Encoding.PEM))

    def issue(
        self, name: str, *, valid: timedelta = timedelta(days=2), host: str = "127.0.0.1"
    ) -> tuple[Path, Path, Path]:
        """(certificate, key, both in one file) for that common name; a negative `valid` has passed already."""
        key = ec.generate_private_key(ec.SECP256R1())
        at = [x509.IPAddress(ip_address(host)), x509.DNSName("localhost")]
        builder = self._builder(_name(name), key, valid).add_extension(x509.SubjectAlternativeName(at), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        files = tuple(self.folder / f"{name}.{kind}.pem" for kind in ("crt", "key", "both"))
        for file, data in zip(files, (certificate, _pem(key), _pem(key) + certificate), strict=True):
            file.write_bytes(data)
            file.chmod(0o600)
        return files  # type: ignore[return-value]

    def encrypted_key(self, name: str) -> Path:
        """A private key behind a passphrase."""
        file = self.folder / f"{name}.encrypted.pem"
        file.write_bytes(_pem(ec.generate_private_key(ec.SECP256R1()), b"a passphrase"))
        return file

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, valid: timedelta
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        return builder.not_valid_before(now - timedelta(days=3)).not_valid_after(now + valid)
