"""The site's own certificate authority: one per data folder, EC P-256, offline from any other.

It signs server certificates (dashboard, agents, registry) and device certificates. The CA's key
is kept encrypted by the keyring in `pki/ca.key` and never enters the DB; server keys lie beside
their certificates, 0600, since the programs that serve with them read files. Knows no domain:
which certificate is revoked is decided by whoever keeps the list of serials.
"""

import ipaddress
import os
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature, InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from haechi.core.clock import Clock
from haechi.core.secrets import Keyring, Secret
from haechi.core.trust import device_name, fingerprint, server_name
from haechi.errors import Text, Upstream

CA_LIFE: Final = timedelta(days=20 * 365)
SERVER_LIFE: Final = timedelta(days=397)
"""Browsers refuse longer ones."""
DEVICE_LIFE: Final = timedelta(days=365)
_BACKDATE: Final = timedelta(days=1)
_KEY_OWNER: Final = "pki:ca-key"
_MAX_CSR_BYTES: Final = 8192
_DEVICE_URI: Final = "urn:haechi:device:"


class SiteCaDamaged(Upstream):
    code = "core.site_ca_damaged"
    detail = Text(
        "현장 인증 기관의 파일 {path}을(를) 사용할 수 없습니다: {reason}",
        "The file {path} of the site's certificate authority cannot be used: {reason}",
    )
    remedy = Text(
        "데이터 폴더의 keyring과 pki를 같은 백업에서 함께 되돌리세요.",
        "Put `keyring` and `pki` of the data folder back, both from the same backup.",
    )


ClientCertificates = Literal["none", "optional", "required"]


@dataclass(frozen=True, slots=True)
class ServerFiles:
    """What a listener or child process serves with; `certificate` holds the CA too."""

    certificate: Path
    key: Path
    ca: Path
    renewed: bool
    """Issued just now: whoever serves with the old one must load it."""


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    pem: str
    serial: str
    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True)
class DeviceIdentity:
    """What a device certificate says; only to be trusted after TLS has verified it."""

    device_id: str
    serial: str


class SiteCa:
    """Open it once; every method is quick enough for the loop except `server_files`."""

    def __init__(
        self,
        *,
        directory: Path,
        server_id: str,
        clock: Clock,
        key: ec.EllipticCurvePrivateKey,
        certificate: x509.Certificate,
    ) -> None:
        self._directory = directory
        self._server_id = server_id
        self._clock = clock
        self._key = key
        self._certificate = certificate

    @classmethod
    def open(cls, directory: Path, *, server_id: str, keyring: Keyring, clock: Clock) -> "SiteCa":
        """Read the CA from `directory` (DATA/pki), or make it where there is none. Raises
        SiteCaDamaged.
        """
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        key_path, certificate_path = directory / "ca.key", directory / "ca.pem"
        if not key_path.exists():
            new_key = ec.generate_private_key(ec.SECP256R1())
            made = _make_ca(new_key, server_id, clock.now())
            secret = Secret(_key_pem(new_key))
            # The certificate first: a key file marks the CA as complete.
            write_file(certificate_path, made.public_bytes(serialization.Encoding.PEM), 0o644)
            write_file(key_path, keyring.encrypt(secret, _KEY_OWNER), 0o600)
        key, certificate = _read_ca(key_path, certificate_path, keyring)
        return cls(
            directory=directory,
            server_id=server_id,
            clock=clock,
            key=key,
            certificate=certificate,
        )

    @property
    def pem(self) -> str:
        return self._certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def path(self) -> Path:
        return self._directory / "ca.pem"

    @property
    def fingerprint(self) -> str:
        return fingerprint(self._certificate.public_bytes(serialization.Encoding.DER))

    @property
    def server_name(self) -> str:
        return server_name(self._server_id)

    def server_files(self, name: str, hosts: Iterable[str]) -> ServerFiles:
        """Certificate and key of the listener or child `name`, good for `hosts` (names and IPs).

        Made anew when a host is missing or a third of its life is left; otherwise as it lies
        there. Every one is good for this machine itself and for `server_name` as well.
        """
        wanted = {*map(_canonical, hosts), self.server_name, "localhost", "127.0.0.1", "::1"}
        wanted.discard("")
        files = ServerFiles(
            certificate=self._directory / f"{name}.pem",
            key=self._directory / f"{name}.key",
            ca=self.path,
            renewed=False,
        )
        if self._still_good(files, wanted):
            return files
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(
            key.public_key(),
            common_name=f"haechi {name}",
            names=[_san(host) for host in sorted(wanted)],
            usages=[ExtendedKeyUsageOID.SERVER_AUTH],
            life=SERVER_LIFE,
        )
        chain = certificate.public_bytes(serialization.Encoding.PEM) + self.pem.encode()
        write_file(files.key, _key_pem(key).encode(), 0o600)
        write_file(files.certificate, chain, 0o644)
        return ServerFiles(files.certificate, files.key, files.ca, renewed=True)

    def sign_device(self, device_id: str, csr_pem: str) -> IssuedCertificate:
        """A client (and peer) certificate for the key of a CSR; raises ValueError on a bad one.

        Nothing of the CSR but its key is used: whose certificate it is, the caller decides.
        """
        certificate = self._sign(
            _key_of_csr(csr_pem),
            common_name=device_id,
            names=[
                x509.DNSName(device_name(device_id)),
                x509.UniformResourceIdentifier(_DEVICE_URI + device_id),
            ],
            usages=[ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH],
            life=DEVICE_LIFE,
        )
        return IssuedCertificate(
            pem=certificate.public_bytes(serialization.Encoding.PEM).decode(),
            serial=_serial(certificate),
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
        )

    def server_context(
        self, files: ServerFiles, *, clients: ClientCertificates = "none"
    ) -> ssl.SSLContext:
        """For a listener. A renewed certificate is taken up by `context.load_cert_chain`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(files.certificate, files.key)
        if clients != "none":
            context.load_verify_locations(cadata=self.pem)
            context.verify_mode = ssl.CERT_OPTIONAL if clients == "optional" else ssl.CERT_REQUIRED
        return context

    def _still_good(self, files: ServerFiles, wanted: set[str]) -> bool:
        try:
            certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
            key = serialization.load_pem_private_key(files.key.read_bytes(), password=None)
            certificate.verify_directly_issued_by(self._certificate)
        except (OSError, ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            return False
        now = self._clock.now()
        start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        return (
            key.public_key() == certificate.public_key()
            and start <= now < end - (end - start) / 3
            and wanted <= _hosts_of(certificate)
        )

    def _sign(
        self,
        key: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey,
        *,
        common_name: str,
        names: list[x509.GeneralName],
        usages: list[x509.ObjectIdentifier],
        life: timedelta,
    ) -> x509.Certificate:
        now = self._clock.now()
        ca_key = self._key.public_key()
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(common_name))
            .issuer_name(self._certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _BACKDATE)
            .not_valid_after(min(now + life, self._certificate.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key), critical=False
            )
        )
        return builder.sign(self._key, hashes.SHA256())


def read_device_identity(der: bytes) -> DeviceIdentity | None:
    """Whose certificate it is; None where it is no device's (a server's, a stranger's)."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return None
    for uri in names.get_values_for_type(x509.UniformResourceIdentifier):
        if uri.startswith(_DEVICE_URI):
            return DeviceIdentity(uri.removeprefix(_DEVICE_URI), _serial(certificate))
    return None


def renew_at(certificate_pem: str) -> datetime:
    """Half-life: when a device asks for its next certificate."""
    certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return start + (end - start) / 2


def make_key_and_csr(common_name: str) -> tuple[str, str]:
    """(private key PEM, CSR PEM) of a fresh EC P-256 key; the key never leaves the device."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(_name(common_name))
        .sign(key, hashes.SHA256())
    )
    return _key_pem(key), request.public_bytes(serialization.Encoding.PEM).decode()


def write_file(path: Path, content: bytes, mode: int) -> None:
    """Replace `path` as a whole: never half a file, never a moment with wider rights."""
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _read_ca(
    key_path: Path, certificate_path: Path, keyring: Keyring
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    path = key_path
    try:
        pem = keyring.decrypt(key_path.read_bytes(), _KEY_OWNER).reveal()
        key = serialization.load_pem_private_key(pem.encode(), password=None)
        path = certificate_path
        certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
    except OSError as error:
        raise SiteCaDamaged(path=str(path), reason=error.strerror) from error
    except InvalidTag as error:
        raise SiteCaDamaged(path=str(path), reason="no key of the keyring fits it") from error
    except ValueError as error:
        raise SiteCaDamaged(path=str(path), reason="its content is damaged") from error
    fits = key.public_key() == certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not fits:
        raise SiteCaDamaged(path=str(path), reason="key and certificate do not belong together")
    return key, certificate


def _make_ca(key: ec.EllipticCurvePrivateKey, server_id: str, now: datetime) -> x509.Certificate:
    name = _name(f"haechi site CA {server_id}")
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now + CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(ca=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _key_of_csr(csr_pem: str) -> ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey:
    if len(csr_pem) > _MAX_CSR_BYTES:
        raise ValueError("too long")
    try:
        request = x509.load_pem_x509_csr(csr_pem.encode())
        key = request.public_key()
        signed_by_itself = request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise ValueError("not a readable PKCS#10 request") from error
    if not signed_by_itself:
        raise ValueError("its signature does not fit its key")
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(
        key.curve, ec.SECP256R1 | ec.SECP384R1
    ):
        return key
    raise ValueError("the key must be EC P-256, P-384 or Ed25519")


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])


def _serial(certificate: x509.Certificate) -> str:
    return f"{certificate.serial_number:040x}"


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def _canonical(host: str) -> str:
    text = host.strip().strip("[]").lower()
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return text


def _san(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _hosts_of(certificate: x509.Certificate) -> set[str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {
        *names.get_values_for_type(x509.DNSName),
        *map(str, names.get_values_for_type(x509.IPAddress)),
    }


def ends_at(pem: str) -> datetime:
    """When the first certificate of a PEM text ends. Raises ValueError where there is none."""
    return x509.load_pem_x509_certificate(pem.encode()).not_valid_after_utc
