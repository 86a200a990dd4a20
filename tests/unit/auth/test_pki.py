"""The site CA: what it issues, when it issues anew, what it refuses."""

import stat
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from haechi.core import pki
from haechi.core.secrets import Keyring
from haechi.core.trust import fingerprint, pem_to_der
from haechi.testing.clock import FakeClock

SERVER = "sit-aaaaaaaaaaaaaaaa"
DEVICE = "dev-aaaaaaaaaaaaaaaa"
DAY_S = 86400


@pytest.fixture
def clock():
    return FakeClock()


def open_ca(path, clock, name="pki", keyring="keyring"):
    return pki.SiteCa.open(
        path / name, server_id=SERVER, keyring=Keyring.open(path / keyring), clock=clock
    )


@pytest.fixture
def ca(tmp_path, clock):
    return open_ca(tmp_path, clock)


def loaded(path):
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_it_stays_the_same_ca(ca, tmp_path, clock):
    again = open_ca(tmp_path, clock)
    assert again.pem == ca.pem
    assert ca.fingerprint == fingerprint(pem_to_der(ca.pem))


def test_its_key_is_private_and_encrypted(ca, tmp_path, clock):
    key = tmp_path / "pki" / "ca.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    assert b"PRIVATE" not in key.read_bytes()
    with pytest.raises(pki.SiteCaDamaged):
        open_ca(tmp_path, clock, keyring="another")


def test_a_server_certificate_names_hosts_and_the_server_id(ca):
    files = ca.server_files("server", ["Site.Local", "10.1.2.3", "[fd00::1]", ""])
    assert files.renewed
    certificate = loaded(files.certificate)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {
        "site.local",
        "localhost",
        f"{SERVER}.haechi.internal",
    }
    assert {str(ip) for ip in names.get_values_for_type(x509.IPAddress)} == {
        "10.1.2.3",
        "fd00::1",
        "127.0.0.1",
        "::1",
    }
    assert stat.S_IMODE(files.key.stat().st_mode) == 0o600
    assert not ca.server_files("server", ["site.local", "10.1.2.3"]).renewed


def test_a_new_address_gets_a_new_certificate(ca):
    ca.server_files("server", ["10.1.2.3"])
    assert ca.server_files("server", ["10.1.2.4"]).renewed
    assert not ca.server_files("server", ["10.1.2.4"]).renewed


async def test_renewed_before_it_expires(ca, clock):
    ca.server_files("server", [])
    await clock.advance(200 * DAY_S)
    assert not ca.server_files("server", []).renewed
    await clock.advance(70 * DAY_S)
    assert ca.server_files("server", []).renewed


@pytest.mark.parametrize("damage", ["certificate", "key"])
def test_a_damaged_file_is_replaced(ca, damage):
    files = ca.server_files("server", [])
    getattr(files, damage).write_text("rubbish")
    assert ca.server_files("server", []).renewed


def test_a_certificate_of_another_ca_is_replaced(ca, tmp_path, clock):
    files = open_ca(tmp_path, clock, name="other").server_files("server", [])
    for path in (files.certificate, files.key):
        (tmp_path / "pki" / path.name).write_bytes(path.read_bytes())
    assert ca.server_files("server", []).renewed


def test_a_device_certificate_carries_the_device_and_nothing_from_the_request(ca):
    _, csr = pki.make_key_and_csr("dev-somebodyelse0000")
    issued = ca.sign_device(DEVICE, csr)
    der = pem_to_der(issued.pem)
    assert pki.read_device_identity(der) == pki.DeviceIdentity(DEVICE, issued.serial)
    certificate = x509.load_der_x509_certificate(der)
    assert certificate.subject.rfc4514_string() == f"CN={DEVICE}"
    assert b"somebodyelse" not in der
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert not constraints.ca
    assert issued.not_after - issued.not_before == timedelta(days=366)
    assert pki.renew_at(issued.pem) == issued.not_before + timedelta(days=183)


def csr_of(key):
    name = x509.Name([])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


def test_bad_requests_are_refused(ca):
    _, good = pki.make_key_and_csr("x")
    der = bytearray(x509.load_pem_x509_csr(good.encode()).public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    forged = x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM).decode()
    weak = csr_of(rsa.generate_private_key(65537, 2048))
    odd = csr_of(ec.generate_private_key(ec.SECP256K1()))
    for bad in ("", "rubbish", good[:100], forged, weak, odd, "x" * 100_000, ca.pem, "é"):
        with pytest.raises(ValueError):
            ca.sign_device(DEVICE, bad)


def test_a_device_id_that_looks_like_the_server_gives_no_server_name(ca):
    """A device must not be able to pass for the server towards other agents."""
    _, csr = pki.make_key_and_csr(SERVER)
    certificate = x509.load_pem_x509_certificate(ca.sign_device(DEVICE, csr).pem.encode())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [f"{DEVICE}.haechi.internal"]


def test_write_file_leaves_no_half_file_and_no_wide_rights(tmp_path):
    path = tmp_path / "secret"
    path.write_text("old")
    path.chmod(0o644)
    (tmp_path / "secret.part").write_text("left by a crash")
    pki.write_file(path, b"new", 0o600)
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["secret"]
