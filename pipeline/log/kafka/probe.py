"""Reason why a broker that is there does not let us in: one question to its port, asked after a client has failed.

    refusal(connection, host, port) = text        only on evidence: a TLS alert, a certificate, an answer to a SASL handshake; else ''

kafka-python tells none of this: it tries again until its time is up, and what a broker says before it closes a connection is mostly lost
with that connection. A probe only reads after it has asked, so nothing is lost. No password is ever sent.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from typing import NamedTuple

from pipeline.log.kafka.connection import KafkaConnection

TIMEOUT_S = 2.0
ALERT_WAIT_S = 1.0  # TLS 1.3: the broker looks at our certificate when we have finished already
SASL_HANDSHAKE, VERSION = 17, 1
NO_ERROR, UNSUPPORTED_MECHANISM, ILLEGAL_STATE = 0, 33, 34
LARGEST_ANSWER_BYTES = 64 * 1024
AUTHORITY_UNKNOWN = {18, 19, 20, 21}  # X509_V_ERR_*: self-signed, or its issuer is not known here
EXPIRED, NOT_YET_VALID = 10, 9
WRONG_NAME = {62, 64}  # hostname, IP address
CERTIFICATE_ALERTS = ("CERTIFICATE", "UNKNOWN_CA", "HANDSHAKE_FAILURE", "ACCESS_DENIED")


class Sasl(NamedTuple):
    """A broker's answer to a SASL handshake; `error` ILLEGAL_STATE: this listener wants no SASL."""

    error: int
    mechanisms: tuple[str, ...]


def refusal(connection: KafkaConnection, host: str, port: int) -> str:
    """Reason why `host`:`port` does not let this connection in, with the setting that would; '' when nothing is seen to be wrong.

    Takes a few round trips, and TIMEOUT_S where something listens and says nothing.
    """
    try:
        return _of_tls(connection, host, port) if connection.tls else _of_plaintext(connection, host, port)
    except OSError:
        return ""


def certificate_refused(error: ssl.SSLCertVerificationError, host: str, cafile: str) -> str:
    """Fault of a broker's certificate, and what to do."""
    if error.verify_code in (EXPIRED, NOT_YET_VALID):
        when = "has expired" if error.verify_code == EXPIRED else "is not valid yet"
        return f"has a certificate that {when}: its administrator must renew it (or this machine's clock is wrong)"
    if error.verify_code in AUTHORITY_UNKNOWN:
        known = f"not among those in {cafile}" if cafile else "none that this machine trusts"
        return (
            f"has a certificate whose authority is {known} ({error.verify_message}): set kafka_ssl_cafile (WATERSHED_KAFKA_SSL_CAFILE)"
            f" to the PEM file of the authority that signed it"
        )
    if error.verify_code in WRONG_NAME:
        return (
            f"has a certificate for another name than {host} ({error.verify_message}): name the broker in `kafka`, and in its"
            f" advertised.listeners, as its certificate does"
        )
    return f"has a certificate that cannot be trusted ({error.verify_message}): look at kafka_ssl_cafile (WATERSHED_KAFKA_SSL_CAFILE)"


def client_certificate_refused(reason: str | None, connection: KafkaConnection) -> str:
    """A broker's TLS alert, or '' when it is not about a certificate of ours."""
    if not reason or "ALERT" not in reason or not any(word in reason for word in CERTIFICATE_ALERTS):
        return ""
    said = reason.split("ALERT_", 1)[-1].lower().replace("_", " ")
    pair = "kafka_ssl_certfile and kafka_ssl_keyfile (WATERSHED_KAFKA_SSL_CERTFILE, WATERSHED_KAFKA_SSL_KEYFILE)"
    if not connection.ssl_certfile:
        return f"wants a certificate of the client, and none is set ({said}): set {pair}"
    return (
        f"refuses the client certificate {connection.ssl_certfile} ({said}): it has expired, or its authority is none that the broker"
        f" trusts (`openssl x509 -in {connection.ssl_certfile} -noout -enddate -issuer` shows both); set {pair}"
    )


def _of_plaintext(connection: KafkaConnection, host: str, port: int) -> str:
    with _connected(host, port) as plain:
        answer = _ask(plain, connection)
    if answer is not None:
        return _of_sasl(connection, answer)
    if _speaks_tls(host, port):
        return (
            f"speaks TLS, and kafka_security_protocol (WATERSHED_KAFKA_SECURITY_PROTOCOL) is {connection.security_protocol}: set it to"
            f" {'SASL_SSL' if connection.sasl else 'SSL, or to SASL_SSL with a user'}, and kafka_ssl_cafile where its authority is private"
        )
    return ""


def _of_tls(connection: KafkaConnection, host: str, port: int) -> str:
    said = _secured(connection, host, port)
    if said is not None:
        return said
    with _connected(host, port) as plain:
        if _ask(plain, connection) is None:
            return ""
    return (
        f"speaks no TLS, and kafka_security_protocol (WATERSHED_KAFKA_SECURITY_PROTOCOL) is {connection.security_protocol}: set it to"
        f" {'SASL_PLAINTEXT' if connection.sasl else 'PLAINTEXT'}, or `kafka` to the port of the broker's TLS listener"
    )


def _secured(connection: KafkaConnection, host: str, port: int) -> str | None:
    """Refusal within TLS, '' when there is none; None when the handshake was broken off, as by a port that speaks no TLS."""
    with _connected(host, port) as plain:
        try:
            with connection.tls_context().wrap_socket(plain, server_hostname=host.rstrip(".")) as secured:
                secured.settimeout(ALERT_WAIT_S)
                with contextlib.suppress(TimeoutError):
                    secured.recv(1)  # an alert raises, and silence is consent
                secured.settimeout(TIMEOUT_S)
                answer = _ask(secured, connection)
                return "" if answer is None else _of_sasl(connection, answer)
        except ssl.SSLCertVerificationError as error:
            return certificate_refused(error, host, connection.ssl_cafile)
        except ssl.SSLError as error:
            return client_certificate_refused(error.reason, connection) or None
        except TimeoutError:
            return ""
        except OSError:
            return None


def _of_sasl(connection: KafkaConnection, answer: Sasl) -> str:
    offered = ", ".join(answer.mechanisms)
    plain = connection.security_protocol.removeprefix("SASL_")
    if connection.sasl and answer.error == ILLEGAL_STATE:
        return (
            f"wants no SASL there, and kafka_security_protocol (WATERSHED_KAFKA_SECURITY_PROTOCOL) is {connection.security_protocol}: set"
            f" it to {plain}, or `kafka` to the port of the broker's SASL listener"
        )
    if connection.sasl and offered and connection.sasl_mechanism not in answer.mechanisms:
        return (
            f"does not take the SASL mechanism {connection.sasl_mechanism}, only {offered}: set kafka_sasl_mechanism"
            f" (WATERSHED_KAFKA_SASL_MECHANISM)"
        )
    if not connection.sasl and answer.error in (NO_ERROR, UNSUPPORTED_MECHANISM):
        wanted = "SASL_SSL" if connection.tls else "SASL_PLAINTEXT"
        return (
            f"wants SASL ({offered or 'it names no mechanism'}), and kafka_security_protocol (WATERSHED_KAFKA_SECURITY_PROTOCOL) is"
            f" {connection.security_protocol}: set it to {wanted}, and kafka_sasl_mechanism, kafka_username and kafka_password"
        )
    return ""


def _connected(host: str, port: int) -> socket.socket:
    return socket.create_connection((host, port), timeout=TIMEOUT_S)


def _speaks_tls(host: str, port: int) -> bool:
    """True when a TLS handshake gets an answer, whatever the certificates; nothing else is sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with _connected(host, port) as plain, context.wrap_socket(plain, server_hostname=host.rstrip(".")):
            return True
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")
    except OSError:
        return False


def _ask(at: socket.socket, connection: KafkaConnection) -> Sasl | None:
    """Name a SASL mechanism; the broker's answer, or None when what comes is not Kafka's. TimeoutError when nothing comes."""
    name = (connection.sasl_mechanism or "PLAIN").encode()
    body = struct.pack(">hhih", SASL_HANDSHAKE, VERSION, 0, -1) + struct.pack(">h", len(name)) + name
    try:
        at.sendall(struct.pack(">i", len(body)) + body)
        (size,) = struct.unpack(">i", _received(at, 4))
        if not 10 <= size <= LARGEST_ANSWER_BYTES:
            return None
        return _read(_received(at, size))
    except TimeoutError:
        raise
    except (OSError, struct.error, UnicodeDecodeError):
        return None


def _read(answer: bytes) -> Sasl | None:
    """SaslHandshakeResponse: correlation id, error code, the enabled mechanisms."""
    correlation, error, count = struct.unpack_from(">ihi", answer)
    if correlation != 0 or error not in (NO_ERROR, UNSUPPORTED_MECHANISM, ILLEGAL_STATE):
        return None
    names, at = [], 10
    for _ in range(max(count, 0)):
        (length,) = struct.unpack_from(">h", answer, at)
        names.append(answer[at + 2 : at + 2 + length].decode())
        at += 2 + length
    return Sasl(error, tuple(names))


def _received(at: socket.socket, size: int) -> bytes:
    """Exactly `size` bytes; OSError when the other side closes first."""
    found = b""
    while len(found) < size:
        if not (more := at.recv(size - len(found))):
            raise ConnectionResetError("closed")
        found += more
    return found
