"""Enrolling and renewing: a key made on the device, a certificate by the site CA.

The only module of the agent that needs `cryptography`; it runs in a short process of its own
(`haechi agent enrol`, and `python -m haechi.agent renew` started by the agent), so that the
agent itself never loads it. The private key never leaves the device.
"""

import contextlib
import http.client
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import msgspec

from haechi import __version__
from haechi.agent import boot
from haechi.agent.errors import AlreadyEnrolled, EnrolmentRefused, ServerUnreachable
from haechi.agent.home import (
    Device,
    Home,
    Invitation,
    read_json,
    remove_file,
    write_file,
    write_json,
)
from haechi.core.clock import to_ms
from haechi.core.trust import (
    INTERNAL_DOMAIN,
    ServerNotTrusted,
    client_context,
    fetch_ca,
    server_name,
)
from haechi.protocol.frames import EnrolIn, EnrolOut, RenewIn

TIMEOUT_S: Final = 15.0


def enrol(
    data_dir: Path, *, server: str, token: str, ca_fingerprint: str, force: bool = False
) -> Device:
    """Make a key, trade the one-time token for a certificate, and remember both."""
    home = Home(data_dir)
    home.prepare()
    with home.lock():
        known = read_json(home.device_file, Device)
        if known is not None and not force:
            raise AlreadyEnrolled(device_id=known.device_id)
        host, port = split_address(server)
        ca_pem = fetch_ca(host, port, _canonical_fingerprint(ca_fingerprint), timeout_s=TIMEOUT_S)
        key_pem, csr_pem = _key_and_csr("enrolling")
        body = EnrolIn(
            token=token,
            csr_pem=csr_pem,
            machine_id=boot.machine_id(),
            host_name=boot.host_name(),
            agent_version=__version__,
        )
        # Nobody's clock is trusted yet, and the server's id is not known: any name that is the
        # server's (and no device's, which the CA signs as well) will do at this address.
        context = client_context(ca_pem, check_dates=False)
        context.check_hostname = False
        out = _post(host, port, "/agent/v1/enrol", body, context, name=host)
        if known is not None and known.device_id != out.device_id:
            _forget_former_life(home)
        return _store(home, server, out, key_pem)


def accept(data_dir: Path) -> Device | None:
    """Use up the invitation that was laid into the data folder; None where there is none. One that
    the server refuses is of no more use, and goes; the device enrolled here before stays."""
    home = Home(data_dir)
    invitation = read_json(home.invitation_file, Invitation)
    if invitation is None:
        return None
    try:
        device = enrol(
            data_dir,
            server=invitation.server,
            token=invitation.token,
            ca_fingerprint=invitation.ca_fingerprint,
            force=True,
        )
    except EnrolmentRefused:
        remove_file(home.invitation_file)
        raise
    remove_file(home.invitation_file)
    return device


def accept_in_child(home: Home) -> None:
    """`accept`, in a process of its own: making keys costs memory that an agent has not got. The
    server may be away: tried again for ever by whoever starts the agent again."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(  # noqa: S603 - this program
            [sys.executable, "-m", "haechi.agent", "accept", str(home.root)],
            check=False,
            timeout=4 * TIMEOUT_S,
        )


def renew(data_dir: Path) -> Device:
    """Trade the certificate in use for a fresh one with a fresh key. The agent may be running."""
    home = Home(data_dir)
    device = home.device()
    host, port = split_address(device.server)
    key_pem, csr_pem = _key_and_csr(device.device_id)
    context = client_context(
        home.ca_file.read_text(),
        certificate_file=home.identity_file,
        check_dates=clock_is_set(device),
    )
    name = server_name(device.server_id)
    out = _post(host, port, "/agent/v1/renew", RenewIn(csr_pem), context, name=name)
    if out.device_id != device.device_id:
        raise EnrolmentRefused(reason=f"the certificate is for {out.device_id}")
    return _store(home, device.server, out, key_pem, seen_wall_ms=device.seen_wall_ms)


def clock_is_set(device: Device) -> bool:
    """False where the wall clock cannot be right: before what was seen, or years after it."""
    floor_ms = max(device.seen_wall_ms, device.not_before_ms)
    now_ms = boot.wall_ms()
    return floor_ms - 3_600_000 <= now_ms <= floor_ms + 400 * 86_400_000


def renewal_due(device: Device) -> bool:
    """Past half-life, by a clock that is set."""
    if not device.not_after_ms or not clock_is_set(device):
        return False
    return boot.wall_ms() > (device.not_before_ms + device.not_after_ms) / 2


def split_address(server: str) -> tuple[str, int]:
    host, _, port = server.rpartition(":")
    if not host or not port.isdigit():
        raise ServerUnreachable(server=server, reason="not HOST:PORT")
    return host.strip("[]"), int(port)


def _canonical_fingerprint(text: str) -> str:
    """Accept what people paste: with or without `sha256:`, with colons, in capitals."""
    plain = text.strip().lower().removeprefix("sha256:").replace(":", "")
    return f"sha256:{plain}"


def _key_and_csr(common_name: str) -> tuple[str, str]:
    from haechi.core.pki import make_key_and_csr

    return make_key_and_csr(common_name)


def _store(
    home: Home, server: str, out: EnrolOut, key_pem: str, *, seen_wall_ms: int = 0
) -> Device:
    from cryptography import x509

    certificate = x509.load_pem_x509_certificate(out.certificate_pem.encode())
    device = Device(
        device_id=out.device_id,
        server_id=out.server_id,
        server=server,
        not_before_ms=to_ms(certificate.not_valid_before_utc),
        not_after_ms=to_ms(certificate.not_valid_after_utc),
        seen_wall_ms=seen_wall_ms,
    )
    write_file(home.ca_file, out.ca_pem.encode())
    write_file(home.identity_file, (key_pem + out.certificate_pem).encode())
    write_json(home.device_file, device)
    return device


def _forget_former_life(home: Home) -> None:
    """Another device was enrolled here: its desired state and tokens are not this one's."""
    for path in (home.desired_file, home.registry_file, home.paths_file, home.queue_file):
        for part in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
            part.unlink(missing_ok=True)
    for path in home.containers.glob("*.json"):
        path.unlink()


def _post(
    host: str,
    port: int,
    path: str,
    body: msgspec.Struct,
    context: ssl.SSLContext,
    *,
    name: str,
) -> EnrolOut:
    server = f"{host}:{port}"
    connection = _Connection(host, port, context, name)
    try:
        connection.connect()
        _require_server(connection.sock, server)
        connection.request(
            "POST", path, msgspec.json.encode(body), {"Content-Type": "application/json"}
        )
        answer = connection.getresponse()
        data = answer.read(256 * 1024)
    except ssl.SSLCertVerificationError as error:
        raise ServerNotTrusted(address=server, reason=error.verify_message) from error
    except (OSError, http.client.HTTPException) as error:
        raise ServerUnreachable(server=server, reason=str(error)) from error
    finally:
        connection.close()
    if answer.status >= 400:
        raise EnrolmentRefused(reason=_reason(data, answer.status))
    try:
        return msgspec.json.decode(data, type=EnrolOut)
    except msgspec.MsgspecError as error:
        raise EnrolmentRefused(reason=f"unreadable answer: {error}") from error


def _reason(data: bytes, status: int) -> str:
    try:
        problem = msgspec.json.decode(data, type=dict[str, Any])
    except msgspec.MsgspecError:
        return f"HTTP {status}"
    return str(problem.get("detail") or problem.get("code") or status)[:300]


def _require_server(sock: Any, server: str) -> None:
    """The site CA signs devices too: what answers must carry a server's name."""
    names = [value for kind, value in sock.getpeercert().get("subjectAltName", ()) if kind == "DNS"]
    suffix = f".{INTERNAL_DOMAIN}"
    if not any(name.endswith(suffix) and not name.startswith("dev-") for name in names):
        raise ServerNotTrusted(address=server, reason="this is not the certificate of a server")


class _Connection(http.client.HTTPSConnection):
    """HTTPS to an address, with the name to check the server by given apart."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext, name: str) -> None:
        super().__init__(host, port, timeout=TIMEOUT_S, context=context)
        self._checked_name = name
        self._tls = context

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=self._checked_name)
