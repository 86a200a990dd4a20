"""How a client trusts the site: by the site CA and the server's id. Standard library only.

The agent uses it and must stay small, so nothing here imports `cryptography`; making keys and
certificates is `core.pki`. A server is named by its id, never by its address, which may change:
every server certificate carries `server_name(server_id)` and OpenSSL checks that name whatever
address was dialled.
"""

import base64
import hashlib
import re
import socket
import ssl
from pathlib import Path
from typing import Final

from haechi.errors import Text, Upstream

INTERNAL_DOMAIN: Final = "haechi.internal"
_NO_CHECK_TIME: Final = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME, which Python's ssl does not name."""
_PEM: Final = re.compile(
    r"-----BEGIN CERTIFICATE-----\s+([A-Za-z0-9+/=\s]+?)-----END CERTIFICATE-----"
)


class ServerNotTrusted(Upstream):
    code = "core.server_not_trusted"
    detail = Text(
        "{address}의 서버는 이 현장의 CA 인증서를 제시하지 않았습니다: {reason}",
        "The server at {address} did not show this site's CA certificate: {reason}",
    )
    remedy = Text(
        "서버 주소와 CA 지문을 확인하고 'haechi device enrol'로 명령을 다시 만드세요.",
        "Check address and CA fingerprint, and make the command anew with `haechi device enrol`.",
    )


def server_name(server_id: str) -> str:
    """The name to check a server by (`server_hostname`), whatever its address is."""
    return f"{server_id}.{INTERNAL_DOMAIN}"


def device_name(device_id: str) -> str:
    """The name by which peers check a device's certificate."""
    return f"{device_id}.{INTERNAL_DOMAIN}"


def fingerprint(der: bytes) -> str:
    """`sha256:<hex>` of a certificate."""
    return "sha256:" + hashlib.sha256(der).hexdigest()


def pem_to_der(pem: str) -> bytes:
    """The first certificate in a PEM text; raises ValueError where there is none."""
    found = _PEM.search(pem)
    if found is None:
        raise ValueError("no certificate in PEM form")
    return base64.b64decode("".join(found.group(1).split()))


def client_context(
    ca_pem: str,
    *,
    certificate_file: Path | None = None,
    key_file: Path | None = None,
    check_dates: bool = True,
) -> ssl.SSLContext:
    """Trusts the site CA alone and checks the server's name.

    `check_dates=False` is for a device whose clock has not been set yet (CONTRACTS 3).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cadata=ca_pem)
    if not check_dates:
        context.verify_flags |= _NO_CHECK_TIME
    if certificate_file is not None:
        context.load_cert_chain(certificate_file, key_file)
    return context


def fetch_ca(host: str, port: int, wanted: str, *, timeout_s: float = 10.0) -> str:
    """The CA certificate (PEM) that a server shows, where its fingerprint is `wanted`.

    Blocking: call it in a thread. Sends nothing but a TLS handshake; the caller then connects
    again with `client_context` before it says anything. Raises ServerNotTrusted.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    address = f"{host}:{port}"
    try:
        with (
            socket.create_connection((host, port), timeout=timeout_s) as raw,
            context.wrap_socket(raw, server_hostname=host) as tls,
        ):
            chain = _shown_chain(tls)
    except OSError as error:
        raise ServerNotTrusted(address=address, reason=str(error)) from error
    for der in chain:
        if fingerprint(der) == wanted.strip().lower():
            return ssl.DER_cert_to_PEM_cert(der)
    raise ServerNotTrusted(address=address, reason="another CA fingerprint")


def _shown_chain(tls: ssl.SSLSocket) -> list[bytes]:
    public = getattr(tls, "get_unverified_chain", None)  # Python ≥ 3.13
    if public is not None:
        return list(public())
    # The same call below the public class, there since 3.10; 1 is ENCODING_PEM.
    inner = tls._sslobj  # type: ignore[attr-defined]  # noqa: SLF001
    return [pem_to_der(certificate.public_bytes(1)) for certificate in inner.get_unverified_chain()]
