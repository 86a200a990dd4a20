import pytest

from haechi.domains.clusters.bundle.errors import BundleNotFound, BundleUnreadable
from haechi.domains.clusters.bundle.model import LIST_NAME, Bundle, name_of, repository


def test_what_is_written_is_read_again(bundle):
    text = (bundle.folder / LIST_NAME).read_text()
    assert bundle.as_toml() == text
    assert Bundle.open(bundle.folder) == bundle
    assert bundle.name == bundle.folder.name == name_of(bundle.kubernetes, "linux/amd64")
    assert bundle.arch == "amd64"


def test_a_worker_never_takes_what_only_a_control_plane_needs(bundle):
    worker = {part.path for part in bundle.files_for("worker")}
    control = {part.path for part in bundle.files_for("control-plane")}
    assert worker < control
    assert {"bin/kubelet", "cni/flannel", "images/worker.tar", "host/Packages"} <= worker
    assert {"bin/kubectl", "images/control-plane.tar"} <= control - worker
    names = {
        repository(image.reference).rpartition("/")[2] for image in bundle.images_for("worker")
    }
    assert names == {"pause", "kube-proxy", "flannel", "coredns"}
    assert len(bundle.images_for("control-plane")) == 8


def test_parts_of_one_kind(bundle):
    programs = bundle.files_for("worker", "program")
    assert [part.name for part in programs] == [
        "containerd",
        "containerd-shim-runc-v2",
        "ctr",
        "kubeadm",
        "kubelet",
    ]
    assert all(bundle.path_of(part).is_file() for part in programs)
    assert {part.kind for part in bundle.files_for("worker", "package", "index")} == {
        "package",
        "index",
    }


def test_an_image_by_its_short_name(bundle):
    assert bundle.image("flannel").reference.startswith("ghcr.io/flannel-io/flannel:v")
    assert bundle.image("etcd").archive == "images/control-plane.tar"
    with pytest.raises(KeyError):
        bundle.image("nginx")


def test_no_bundle_there(tmp_path):
    for folder in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(BundleNotFound):
            Bundle.open(folder)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"format" = 1', '"format" = 2'),
        ('"platform" = "linux/amd64"', '"platform" = "plan9/mips"'),
        ('"path" = "bin/kubelet"', '"path" = "../kubelet"'),
        ('"path" = "bin/kubelet"', '"path" = "/bin/kubelet"'),
        ('"path" = "bin/kubelet"', '"path" = "bin//kubelet"'),
        ('"archive" = "images/worker.tar"', '"archive" = "../../etc/passwd"'),
        ('"kind" = "program"', '"kind" = "virus"'),
        ('"role" = "worker"', '"role" = "boss"'),
        ('"size_bytes" = ', '"size_bytes" = -'),
        ('"kubernetes" = "1.36.3"', '"kubernetes" = 1.36'),
        ('"kubernetes" = "1.36.3"', '"kubernetes" = "1.36.3-linux-amd64/../../elsewhere"'),
        ("[versions]", "[versionen]"),
        ("[host]", "[host"),
    ],
)
def test_a_list_that_cannot_be_trusted_is_refused(bundle, before, after):
    path = bundle.folder / LIST_NAME
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))
    with pytest.raises(BundleUnreadable) as refused:
        Bundle.open(bundle.folder)
    assert str(path) in refused.value.problem("en")["detail"]


def test_a_list_that_is_no_text(bundle):
    (bundle.folder / LIST_NAME).write_bytes(b"\xff\xfe\0")
    with pytest.raises(BundleUnreadable):
        Bundle.open(bundle.folder)


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause"),
        ("host:5000/a/b:1", "host:5000/a/b"),
        ("host:5000/a/b", "host:5000/a/b"),
    ],
)
def test_a_reference_without_its_tag(reference, expected):
    assert repository(reference) == expected
