import re
import tomllib

import pytest

from haechi.domains.clusters.bundle import recipe as recipes
from haechi.domains.clusters.bundle.errors import BundlePlatformUnknown, BundleVersionUnknown
from haechi.domains.clusters.bundle.recipe import VERSIONS, image_name, load, minors


@pytest.mark.parametrize("wanted", ["", "1.36", "1.36.3", "v1.36.3"])
def test_a_version_is_found_by_any_of_its_names(wanted):
    assert load(wanted).kubernetes == "1.36.3"


@pytest.mark.parametrize("wanted", ["1.35", "1.36.4", "1", "latest", "../1.36"])
def test_an_unknown_version_names_the_known_ones(wanted):
    with pytest.raises(BundleVersionUnknown) as refused:
        load(wanted)
    assert "1.36.3" in refused.value.problem("en")["detail"]


@pytest.mark.parametrize("minor", minors())
def test_everything_that_a_version_names_is_built(minor):
    recipe = load(minor)
    built = {name for build in recipe.builds for name in build.programs}
    assert len(built) == sum(len(build.programs) for build in recipe.builds)
    assert set(recipe.program_paths()) <= built - {"flanneld"}
    assert {name for image in recipe.images for name in image.programs().values()} <= built
    used = set(recipe.program_paths())
    used |= {name for image in recipe.images for name in image.programs().values()}
    assert built == used
    assert len(set(recipe.references)) == len(recipe.images)
    assert {image_name(reference) for reference in recipe.references} >= {
        "pause",
        "kube-proxy",
        "flannel",
        "coredns",
        "etcd",
        "kube-apiserver",
    }


@pytest.mark.parametrize("minor", minors())
def test_every_dependency_is_pinned(minor):
    """go.mod holds the modules that the version file names, and go.sum their digests."""
    document = tomllib.loads(VERSIONS.joinpath(f"{minor}.toml").read_text())
    builds = {build.name: build for build in load(minor).builds}
    for entry in document["build"]:
        files = builds[entry["name"]].files
        if "source" in entry:
            assert "require" not in files["go.mod"].decode()
            continue
        for module in entry["modules"]:
            path, version = module.split()
            pinned = files["go.mod"].decode()
            assert re.search(
                rf"^(require )?\s*{re.escape(path)} {re.escape(version)}$", pinned, re.MULTILINE
            )
            assert f"{path} {version} h1:" in files["go.sum"].decode()


def test_versions_that_are_told_are_those_that_are_built():
    recipe = load("1.36")
    assert f"v{recipe.versions['kubernetes']}" in recipe.content.decode()
    tags = {image_name(one): one.rpartition(":")[2] for one in recipe.references}
    assert tags["kube-apiserver"] == f"v{recipe.kubernetes}" == tags["kube-proxy"]
    assert tags["coredns"] == f"v{recipe.versions['coredns']}"
    assert tags["flannel"] == f"v{recipe.versions['flannel']}"
    assert tags["pause"] == recipe.versions["pause"]
    assert tags["etcd"].startswith(f"{recipe.versions['etcd']}-")


def test_the_digest_tells_recipes_and_platforms_apart(monkeypatch):
    recipe = load()
    assert recipe.digest("linux/amd64") == load().digest("linux/amd64")
    assert recipe.digest("linux/amd64") != recipe.digest("linux/arm64")
    before = recipe.digest("linux/amd64")
    monkeypatch.setattr(recipes, "REVISION", recipes.REVISION + 1)
    assert recipe.digest("linux/amd64") != before


def test_an_unknown_platform():
    with pytest.raises(BundlePlatformUnknown) as refused:
        load().digest("linux/riscv64")
    assert "linux/arm64" in refused.value.problem("ko")["detail"]


def test_data_of_versions_is_in_the_package():
    names = {entry.name for entry in VERSIONS.joinpath("1.36").iterdir()}
    assert names >= {"kubernetes", "containerd", "etcd", "coredns", "flannel"}
