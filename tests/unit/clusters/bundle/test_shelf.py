import shutil

import pytest

from haechi.domains.clusters.bundle.errors import BundleNotFound
from haechi.domains.clusters.bundle.model import LIST_NAME
from haechi.domains.clusters.bundle.shelf import Shelf, fits, version_key
from haechi.domains.clusters.errors import NoBundle
from haechi.domains.clusters.model import FormOptions
from haechi.domains.clusters.releases import ShelfReleases


@pytest.fixture
def shelf(bundle):
    folder = bundle.folder.parent / "shelf"
    for version in ("1.36.3", "1.36.10", "1.9.1"):
        copy = folder / f"v{version}-linux-amd64"
        shutil.copytree(bundle.folder, copy)
        text = (copy / LIST_NAME).read_text()
        (copy / LIST_NAME).write_text(
            text.replace('"kubernetes" = "1.36.3"', f'"kubernetes" = "{version}"', 1)
        )
    (folder / ".making-x").mkdir()
    (folder / "empty").mkdir()
    return Shelf(folder)


def test_what_lies_there(shelf):
    (shelf.folder / "v1.36.3-linux-amd64/bin/kubelet").unlink()
    states = {one.folder.name: one.fault and one.fault.code for one in shelf.all()}
    assert states == {
        "empty": "bundle.not_found",
        "v1.36.10-linux-amd64": None,
        "v1.36.3-linux-amd64": "bundle.part_missing",
        "v1.9.1-linux-amd64": None,
    }


def test_no_shelf(tmp_path):
    assert Shelf(tmp_path / "nowhere").all() == []


def test_by_version_and_platform(shelf):
    assert shelf.find("1.36.3", "linux/amd64").kubernetes == "1.36.3"
    for version, platform in (("1.36.3", "linux/arm64"), ("1.36", "linux/amd64")):
        with pytest.raises(BundleNotFound):
            shelf.find(version, platform)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [("", True), ("1.36", True), ("v1.36.3", True), ("1.3", False), ("1.36.31", False)],
)
def test_which_version_is_asked_for(wanted, expected):
    assert fits("1.36.3", wanted) is expected


def test_ten_comes_after_nine():
    assert version_key("1.36.10") > version_key("1.36.9") > version_key("1.9.12")


async def test_the_release_for_a_cluster(shelf):
    releases = ShelfReleases(shelf)
    options = FormOptions(kubernetes_version="1.36")
    assert await releases.resolve(options, ["linux/amd64"]) == "1.36.10"
    assert await releases.resolve(FormOptions(), []) == "1.36.10"
    exact = FormOptions(kubernetes_version="1.36.3")
    assert await releases.resolve(exact, ["linux/amd64"]) == "1.36.3"
    with pytest.raises(NoBundle) as refused:
        await releases.resolve(options, ["linux/amd64", "linux/arm64"])
    assert "linux/arm64" in refused.value.problem("en")["detail"]
    with pytest.raises(NoBundle):
        await releases.resolve(FormOptions(kubernetes_version="1.35"), ["linux/amd64"])


async def test_from_the_distribution_what_was_tested_is_taken(tmp_path):
    releases = ShelfReleases(Shelf(tmp_path))
    options = FormOptions(source="distribution")
    assert await releases.resolve(options, ["linux/arm64"]) == "1.36.3"
    assert (await releases.image("1.36.3", "flannel")).startswith("ghcr.io/flannel-io/flannel:v")
    # In no package and in no bundle's image: the pods' network brings it.
    plugin = await releases.image("1.36.3", "flannel-cni-plugin")
    assert plugin.startswith("ghcr.io/flannel-io/flannel-cni-plugin:v")
    with pytest.raises(NoBundle):
        await releases.image("1.36.3", "nginx")
    with pytest.raises(NoBundle):
        await releases.image("1.2.3", "flannel")


async def test_images_are_those_of_the_bundle(shelf):
    assert await ShelfReleases(shelf).image("1.36.3", "pause") == "registry.k8s.io/pause:3.10.2"
