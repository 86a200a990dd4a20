import io
import tarfile

import pytest

from haechi.domains.clusters.bundle.carrying import pack, unpack
from haechi.domains.clusters.bundle.errors import BadCarrier, BundleDamaged, BundleInTheWay
from haechi.domains.clusters.bundle.verify import problems


@pytest.fixture
def carrier(bundle, tmp_path):
    target = tmp_path / "stick" / "bundle.tar"
    pack(bundle, target)
    return target


def test_there_and_back(bundle, carrier, tmp_path):
    arrived = unpack(carrier, tmp_path / "site")
    assert arrived.folder == tmp_path / "site" / bundle.name
    assert arrived.digest == bundle.digest
    assert problems(arrived) == []
    assert [path.name for path in (tmp_path / "site").iterdir()] == [bundle.name]


def test_the_same_bundle_gives_the_same_bytes(bundle, carrier, tmp_path):
    pack(bundle, tmp_path / "other.tar")
    assert (tmp_path / "other.tar").read_bytes() == carrier.read_bytes()


def test_an_older_copy_is_replaced_and_other_things_are_not(bundle, carrier, tmp_path):
    site = tmp_path / "site"
    first = unpack(carrier, site)
    (first.folder / "bin/kubelet").unlink()
    assert problems(unpack(carrier, site)) == []
    other = tmp_path / "other" / bundle.name
    other.mkdir(parents=True)
    (other / "mine").write_text("x")
    with pytest.raises(BundleInTheWay):
        unpack(carrier, other.parent)
    assert (other / "mine").exists()


def test_a_damaged_bundle_is_not_packed(bundle, tmp_path):
    (bundle.folder / "bin/kubelet").unlink()
    with pytest.raises(BundleDamaged):
        pack(bundle, tmp_path / "x.tar")
    assert not list(tmp_path.glob("*.tar*"))


@pytest.mark.parametrize("part", [0, 100, 5000, 0.5, 0.9])
def test_a_carrier_that_was_cut_off(carrier, tmp_path, part):
    content = carrier.read_bytes()
    carrier.write_bytes(content[: int(len(content) * part) if part < 1 else part])
    with pytest.raises((BadCarrier, BundleDamaged)):
        unpack(carrier, tmp_path / "site")
    assert list((tmp_path / "site").iterdir()) == []


def test_a_flipped_bit_is_found_before_it_is_put_in_place(carrier, tmp_path):
    content = bytearray(carrier.read_bytes())
    at = content.index(b"\x7fELF") + 100
    content[at] ^= 0xFF
    carrier.write_bytes(content)
    with pytest.raises(BundleDamaged):
        unpack(carrier, tmp_path / "site")
    assert list((tmp_path / "site").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "kind", "link"),
    [
        ("../escaped", tarfile.REGTYPE, ""),
        ("x/../../escaped", tarfile.REGTYPE, ""),
        ("x/link", tarfile.SYMTYPE, "/etc/passwd"),
        ("x/device", tarfile.CHRTYPE, ""),
        ("x/file", tarfile.REGTYPE, ""),
    ],
)
def test_other_tars_are_refused(tmp_path, name, kind, link):
    path = tmp_path / "evil.tar"
    with tarfile.open(path, "w") as tar:
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = kind, link
        tar.addfile(entry, io.BytesIO())
    with pytest.raises(BadCarrier) as refused:
        unpack(path, tmp_path / "site")
    assert str(path) in refused.value.problem("en")["detail"]
    assert not (tmp_path / "escaped").exists()
    assert list((tmp_path / "site").iterdir()) == []


def test_two_folders_in_one_tar(carrier, tmp_path):
    with tarfile.open(carrier, "a") as tar:
        tar.addfile(tarfile.TarInfo("second/file"), io.BytesIO())
    with pytest.raises(BadCarrier):
        unpack(carrier, tmp_path / "site")
