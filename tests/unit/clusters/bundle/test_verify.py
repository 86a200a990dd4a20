"""Each kind of damage is found, named with its file, and all of them at once."""

import io
import shutil
import tarfile

import pytest

from haechi.domains.clusters.bundle import archive, debs
from haechi.domains.clusters.bundle.errors import BundleDamaged
from haechi.domains.clusters.bundle.model import LIST_NAME, Bundle
from haechi.domains.clusters.bundle.verify import problems, sha256_of, verify
from haechi.testing.bundles import tiny_deb, tiny_program


def relist(bundle, *, without=(), **changes):
    """The list as if the files had been so from the beginning: only their content is judged."""
    kept = {}
    for name in ("parts", "images"):
        kept[name] = list(getattr(bundle, name))
    parts = []
    for part in kept["parts"]:
        path = bundle.path_of(part)
        if part.path not in without and path.is_file():
            parts.append(
                type(part)(part.path, part.kind, part.role, path.stat().st_size, sha256_of(path))
            )
    made = {**vars(bundle), "parts": tuple(parts), **changes}
    made.pop("by_path", None)
    changed = Bundle(**made)
    (bundle.folder / LIST_NAME).write_text(changed.as_toml())
    return Bundle.open(bundle.folder)


def found(bundle, **how):
    return {(error.code, error.data.get("path")) for error in problems(bundle, **how)}


def test_a_whole_bundle_has_no_problems(bundle):
    seen = []
    verify(bundle, on_part=seen.append)
    assert set(seen) == {part.path for part in bundle.parts}


def test_all_at_once_with_code_path_and_remedy(bundle):
    (bundle.folder / "bin/kubelet").unlink()
    (bundle.folder / "bin/ctr").write_bytes(b"x")
    (bundle.folder / "cni/bridge").chmod(0o644)
    (bundle.folder / "notes.txt").write_text("mine")
    with pytest.raises(BundleDamaged) as refused:
        verify(bundle)
    assert set(refused.value.codes) == {
        "bundle.part_missing",
        "bundle.part_size",
        "bundle.not_executable",
        "bundle.part_unlisted",
    }
    for language in ("ko", "en"):
        problem = refused.value.problem(language)
        assert problem["data"]["count"] == 4
        for part in problem["data"]["problems"]:
            assert part["path"]
            assert part["path"] in part["detail"]
            assert part["remedy"]


def test_one_flipped_bit(bundle):
    path = bundle.folder / "images/worker.tar"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert found(bundle) == {("bundle.part_changed", "images/worker.tar")}
    assert found(bundle, quick=True) == set()  # the price of quickness


def test_quick_sees_missing_and_cut_off_files(bundle):
    (bundle.folder / "bin/kubelet").unlink()
    path = bundle.folder / "images/worker.tar"
    path.write_bytes(path.read_bytes()[:1000])
    assert found(bundle, quick=True) == {
        ("bundle.part_missing", "bin/kubelet"),
        ("bundle.part_size", "images/worker.tar"),
    }


def test_a_link_in_place_of_a_file(bundle):
    path = bundle.folder / "bin/kubelet"
    path.rename(bundle.folder.parent / "kubelet")
    path.symlink_to(bundle.folder.parent / "kubelet")
    assert found(bundle) == {("bundle.part_unreadable", "bin/kubelet")}


def test_a_folder_in_place_of_a_file(bundle):
    (bundle.folder / "bin/kubelet").unlink()
    (bundle.folder / "bin/kubelet").mkdir()
    assert ("bundle.part_unreadable", "bin/kubelet") in found(bundle)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (tiny_program("arm64", "x"), "bundle.wrong_machine"),
        (b"#!/bin/sh\n", "bundle.wrong_machine"),
        (tiny_program("amd64", "x").replace(b"\1\0\0\0\5", b"\3\0\0\0\5", 1), "bundle.not_static"),
    ],
)
def test_programs_of_another_machine(bundle, content, code):
    (bundle.folder / "bin/kubelet").write_bytes(content)
    assert found(relist(bundle)) == {(code, "bin/kubelet")}


def test_a_program_that_is_not_listed_is_missed(bundle):
    (bundle.folder / "bin/kubeadm").unlink()
    shutil.rmtree(bundle.folder / "images")
    changed = relist(bundle)
    assert {path for code, path in found(changed) if code == "bundle.part_absent"} == {
        "bin/kubeadm",
        "images/worker.tar",
        "images/control-plane.tar",
    }


def test_images_that_kubeadm_will_ask_for(bundle):
    images = tuple(image for image in bundle.images if "coredns" not in image.reference)
    coredns = bundle.image("coredns").reference
    assert found(relist(bundle, images=images)) == {("bundle.part_absent", coredns)}


def test_an_archive_without_an_image(bundle):
    kept = archive.read(bundle.folder / "images/worker.tar")
    path = bundle.folder / "images/worker.tar"
    layer = archive.program_layer(
        {"/pause": bundle.folder / "bin/ctr"}, bundle.folder.parent / "layer"
    )
    archive.write(
        path,
        [
            archive.NewImage(
                kept[0].reference, "linux/arm64", [layer], ["/pause"], "2026-01-01T00:00:00Z"
            )
        ],
    )
    errors = problems(relist(bundle))
    assert {(error.code, error.data["reference"]) for error in errors} == {
        ("bundle.image_wrong", bundle.image("pause").reference),
        *(
            ("bundle.image_missing", bundle.image(name).reference)
            for name in ("kube-proxy", "flannel", "coredns")
        ),
    }


@pytest.mark.parametrize(
    ("platform", "machine", "at", "word"),
    [
        ("linux/arm64", "arm64", "/pause", "for linux/arm64"),
        ("linux/amd64", "arm64", "/pause", "program is for linux/arm64"),
        ("linux/amd64", "amd64", "/elsewhere", "no program"),
    ],
)
def test_an_image_that_cannot_run_there(bundle, tmp_path, platform, machine, at, word):
    program = tmp_path / "program"
    program.write_bytes(tiny_program(machine, "x"))
    layer = archive.program_layer({"/pause": program}, tmp_path / "layer")
    path = bundle.folder / "images/worker.tar"
    made = [
        archive.NewImage(image.reference, platform, [layer], [at], "2026-01-01T00:00:00Z")
        for image in bundle.images_for("worker")
    ]
    digests = archive.write(path, made)
    images = tuple(
        type(image)(
            image.reference, image.role, image.archive, digests.get(image.reference, image.digest)
        )
        for image in bundle.images
    )
    errors = problems(relist(bundle, images=images))
    assert {error.code for error in errors} == {"bundle.image_wrong"}
    assert len(errors) == 4
    assert all(word in error.data["reason"] for error in errors)


def test_an_archive_of_nothing(bundle):
    with tarfile.open(bundle.folder / "images/worker.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("empty"), io.BytesIO())
    assert found(relist(bundle)) == {("bundle.archive_unreadable", "images/worker.tar")}


def test_packages_of_another_machine_and_broken_ones(bundle):
    host = bundle.folder / "host"
    (host / "haproxy_1.0_amd64.deb").write_bytes(tiny_deb("haproxy", "arm64"))
    (host / "kmod_1.0_amd64.deb").write_bytes(b"!<arch>\nbroken")
    codes = found(relist(bundle))
    assert ("bundle.wrong_machine", "host/haproxy_1.0_amd64.deb") in codes
    assert ("bundle.package_wrong", "host/kmod_1.0_amd64.deb") in codes
    assert ("bundle.part_absent", "host/kmod") in codes


def test_a_package_whose_dependency_is_missing(bundle):
    (bundle.folder / "host/libfake1_1.0_amd64.deb").unlink()
    errors = problems(relist(bundle))
    assert {error.code for error in errors} == {"bundle.package_wrong"}
    assert {error.data["path"] for error in errors} == {
        f"host/{name}_1.0_amd64.deb" for name in bundle.host.packages
    }
    assert all("libfake1 | libother1" in error.data["reason"] for error in errors)


def test_a_package_that_aptitude_would_not_find(bundle):
    path = bundle.folder / "host" / debs.INDEX_NAME
    path.write_text(path.read_text().replace("./socat_1.0_amd64.deb", "./other.deb"))
    assert found(relist(bundle)) == {
        ("bundle.package_wrong", "host/socat_1.0_amd64.deb"),
        ("bundle.package_wrong", "host/Release"),
    }


def test_a_bundle_of_a_version_that_this_haechi_does_not_list(bundle):
    """It serves the clusters that were formed from it, after an update of haechi too."""
    for version in ("1.36.99", "1.99.0"):
        other = relist(bundle, kubernetes=version)
        assert found(other) == set()
        images = tuple(image for image in bundle.images if "pause" not in image.reference)
        assert {code for code, _ in found(relist(other, images=images))} == {"bundle.part_absent"}
