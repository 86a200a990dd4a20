"""An address in another's place, in the files of a control plane: whole addresses only."""

import subprocess

import pytest

from haechi.domains.clusters.readdressing import ADDRESSED_SCRIPT, FILES, REWRITE_SCRIPT


def rewritten(tmp_path, text, old="10.0.0.1", new="10.0.0.77"):
    file = tmp_path / "etcd.yaml"
    file.write_text(text)
    argv = ["/bin/sh", "-c", REWRITE_SCRIPT, "x", old, new, str(tmp_path / "none"), str(file)]
    subprocess.run(argv, check=True, timeout=60)
    assert list(tmp_path.iterdir()) == [file]
    return file.read_text()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "- --listen-peer-urls=https://10.0.0.1:2380\n",
            "- --listen-peer-urls=https://10.0.0.77:2380\n",
        ),
        (
            "https://127.0.0.1:2379,https://10.0.0.1:2379\n",
            "https://127.0.0.1:2379,https://10.0.0.77:2379\n",
        ),
        ("host: 10.0.0.1\n", "host: 10.0.0.77\n"),
        ("10.0.0.1\n", "10.0.0.77\n"),
        ("10.0.0.1 10.0.0.1 10.0.0.1\n", "10.0.0.77 10.0.0.77 10.0.0.77\n"),
        ("10.0.0.10 110.0.0.1 10.0.0.1.5 10x0x0x1\n", "10.0.0.10 110.0.0.1 10.0.0.1.5 10x0x0x1\n"),
    ],
)
def test_only_whole_addresses(tmp_path, before, after):
    assert rewritten(tmp_path, before) == after


def test_doing_it_again_changes_nothing(tmp_path):
    once = rewritten(tmp_path, "a=10.0.0.1,b=10.0.0.2\n")
    assert rewritten(tmp_path, once) == once


def test_the_mode_stays(tmp_path):
    file = tmp_path / "admin.conf"
    file.write_text("server: https://10.0.0.1:6443\n")
    file.chmod(0o600)
    argv = ["/bin/sh", "-c", REWRITE_SCRIPT, "x", "10.0.0.1", "10.0.0.2", str(file)]
    subprocess.run(argv, check=True, timeout=60)
    assert file.stat().st_mode & 0o777 == 0o600


def test_all_files_that_bear_the_address_are_named():
    names = {path.rpartition("/")[2] for path in FILES}
    assert {"etcd.yaml", "kube-apiserver.yaml", "kubelet.conf", "scheduler.conf"} <= names


def test_what_a_try_that_was_cut_has_written_is_seen(tmp_path):
    """API server and etcd call themselves differently then."""
    api_server, etcd = tmp_path / "kube-apiserver.yaml", tmp_path / "etcd.yaml"
    api_server.write_text(
        "  - command:\n    - kube-apiserver\n    - --advertise-address=10.0.0.2\n"
        "    - --etcd-servers=https://127.0.0.1:2379\n"
    )
    etcd.write_text(
        "    - --advertise-client-urls=https://10.0.0.1:2379\n"
        "    - --initial-advertise-peer-urls=https://10.0.0.1:2380\n"
        "    - --initial-cluster=a=https://10.0.0.1:2380,b=https://10.0.0.9:2380\n"
    )
    files = [str(tmp_path / "none"), str(api_server), str(etcd)]
    argv = ["/bin/sh", "-c", ADDRESSED_SCRIPT, "x", *files]
    said = subprocess.run(argv, check=True, timeout=60, capture_output=True, text=True)
    assert said.stdout.split() == ["10.0.0.2", "10.0.0.1"]
