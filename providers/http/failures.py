"""What went wrong with an outgoing request, as a wasi:http `error-code`."""

from __future__ import annotations

import errno
import re
import socket
import ssl
from typing import Any

import aiohttp
from aiohttp import http_exceptions

from lattice import Value

_NUMBERS: dict[int, str] = {
    errno.ECONNREFUSED: "connection-refused",
    errno.ETIMEDOUT: "connection-timeout",
    errno.EHOSTUNREACH: "destination-IP-unroutable",
    errno.ENETUNREACH: "destination-IP-unroutable",
    errno.EADDRNOTAVAIL: "destination-IP-unroutable",
    errno.EACCES: "destination-IP-prohibited",
    errno.EPERM: "destination-IP-prohibited",
    errno.ECONNRESET: "connection-terminated",
    errno.ECONNABORTED: "connection-terminated",
    errno.EPIPE: "connection-terminated",
    errno.EMFILE: "connection-limit-reached",
    errno.ENFILE: "connection-limit-reached",
}

_DNS: dict[int, str] = {
    socket.EAI_NONAME: "NXDOMAIN",
    getattr(socket, "EAI_NODATA", socket.EAI_NONAME): "NXDOMAIN",
    socket.EAI_AGAIN: "SERVFAIL",
    socket.EAI_FAIL: "SERVFAIL",
}

ALERTS: dict[str, int] = {
    "CLOSE_NOTIFY": 0,
    "UNEXPECTED_MESSAGE": 10,
    "BAD_RECORD_MAC": 20,
    "RECORD_OVERFLOW": 22,
    "HANDSHAKE_FAILURE": 40,
    "NO_CERTIFICATE": 41,
    "BAD_CERTIFICATE": 42,
    "UNSUPPORTED_CERTIFICATE": 43,
    "CERTIFICATE_REVOKED": 44,
    "CERTIFICATE_EXPIRED": 45,
    "CERTIFICATE_UNKNOWN": 46,
    "ILLEGAL_PARAMETER": 47,
    "UNKNOWN_CA": 48,
    "ACCESS_DENIED": 49,
    "DECODE_ERROR": 50,
    "DECRYPT_ERROR": 51,
    "PROTOCOL_VERSION": 70,
    "INSUFFICIENT_SECURITY": 71,
    "INTERNAL_ERROR": 80,
    "INAPPROPRIATE_FALLBACK": 86,
    "USER_CANCELLED": 90,
    "MISSING_EXTENSION": 109,
    "UNSUPPORTED_EXTENSION": 110,
    "UNRECOGNIZED_NAME": 112,
    "BAD_CERTIFICATE_STATUS_RESPONSE": 113,
    "UNKNOWN_PSK_IDENTITY": 115,
    "CERTIFICATE_REQUIRED": 116,
    "NO_APPLICATION_PROTOCOL": 120,
}
"""TLS alerts (RFC 8446, section 6) by the names that OpenSSL has for them."""


def error_code(error: BaseException) -> Value:
    """The `error-code` of whatever the client library raised, timeouts of ours excepted."""
    match error:
        case aiohttp.ClientConnectorDNSError():
            number = error.os_error.errno or 0
            return {"DNS-error": {"rcode": _DNS.get(number, str(error.os_error)), "info-code": None}}
        case aiohttp.ConnectionTimeoutError():
            return "connection-timeout"
        case aiohttp.ClientConnectorCertificateError():
            return "TLS-certificate-error"
        case aiohttp.ClientSSLError():
            return tls_code(error.os_error)
        case aiohttp.ClientHttpProxyError():
            return {"internal-error": f"the proxy answered {error.status} {error.message}"}
        case aiohttp.InvalidURL():
            return "HTTP-request-URI-invalid"
        case aiohttp.ServerDisconnectedError():
            return _malformed(error.message) if isinstance(error.message, Exception) else "connection-terminated"
        case aiohttp.ClientResponseError():
            return _malformed(error.__cause__)
        case aiohttp.ClientPayloadError():
            return _broken_off(error)
        case ssl.SSLCertVerificationError():
            return "TLS-certificate-error"
        case ssl.SSLError():
            return tls_code(error)
        case OSError():
            return os_code(error)
        case http_exceptions.HttpProcessingError():
            return _malformed(error)
        case aiohttp.ClientConnectionError():
            cause = error.__cause__
            return "connection-terminated" if cause is None else error_code(cause)
        case _:
            return {"internal-error": f"{type(error).__name__}: {error}"}


def os_code(error: OSError) -> Value:
    inner: Any = getattr(error, "os_error", error)
    if isinstance(inner, ssl.SSLError):
        return tls_code(inner)
    number = inner.errno
    if number is None and isinstance(inner, ConnectionResetError):
        return "connection-terminated"
    return _NUMBERS.get(number or 0, "destination-unavailable")


def tls_code(error: BaseException) -> Value:
    """An alert that the other side sent, by its number; anything else is the protocol's."""
    reason = getattr(error, "reason", None) or ""
    if match := re.search(r"ALERT_([A-Z_]+)$", reason):
        alert = match[1]
        return {"TLS-alert-received": {"alert-id": ALERTS.get(alert), "alert-message": alert.lower().replace("_", " ")}}
    return "TLS-protocol-error"


def _malformed(cause: BaseException | None) -> Value:
    while cause is not None:
        if isinstance(cause, http_exceptions.LineTooLong) or "Too many headers" in str(cause):
            return {"HTTP-response-header-section-size": None}
        cause = cause.__cause__
    return "HTTP-protocol-error"


def _broken_off(error: aiohttp.ClientPayloadError) -> Value:
    cause = error.__cause__
    if isinstance(cause, (ConnectionError, aiohttp.ClientOSError)):
        return "connection-terminated"
    if isinstance(cause, http_exceptions.TransferEncodingError) and "Not enough data" not in str(cause):
        return "HTTP-protocol-error"
    return "HTTP-response-incomplete"
