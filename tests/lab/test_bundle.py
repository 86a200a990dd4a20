"""The real bundle: whole, what kubeadm asks for, of its versions, and one mind about iptables.

That hosts become nodes from it is the matter of the other tests here.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest

from haechi.cli.bundle import own_platform
from haechi.domains.clusters.bundle import recipe as recipes
from haechi.domains.clusters.bundle.shelf import Shelf
from haechi.domains.clusters.bundle.verify import problems
from haechi.settings import BundleSettings

HAECHI = Path(__file__).parents[2] / ".venv" / "bin" / "haechi"


@pytest.fixture(scope="module")
def bundle():
    """Of this machine's platform; made where it is not there."""
    recipe = recipes.load()
    settings = BundleSettings()
    run(HAECHI, "bundle", "create", timeout_s=3 * 3600)
    return Shelf(settings.folder.expanduser()).find(recipe.kubernetes, own_platform())


def run(*argv, timeout_s=600):
    words = [str(word) for word in argv]
    done = subprocess.run(words, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_is_whole(bundle):
    assert [f"{error}" for error in problems(bundle)] == []


def test_kubeadm_asks_for_its_images_and_for_no_others(bundle):
    """The versions of etcd, CoreDNS and pause are kubeadm's choice."""
    asked = run(
        bundle.folder / "bin/kubeadm",
        *("config", "images", "list", "--kubernetes-version", f"v{bundle.kubernetes}"),
    ).split()
    flannel = bundle.image("flannel").reference
    assert {image.reference for image in bundle.images} == {*asked, flannel}


def test_the_programs_are_of_their_versions(bundle):
    folder = bundle.folder / "bin"
    assert run(folder / "kubelet", "--version").split()[-1] == f"v{bundle.kubernetes}"
    assert run(folder / "kubeadm", "version", "-o", "short").strip() == f"v{bundle.kubernetes}"
    said = json.loads(run(folder / "kubectl", "version", "--client", "-o", "json"))
    assert said["clientVersion"]["gitVersion"] == f"v{bundle.kubernetes}"
    assert f" v{bundle.versions['containerd']} " in run(folder / "containerd", "--version")


def test_kube_proxy_and_flannel_follow_the_host_s_kind_of_iptables(bundle, tmp_path):
    """In a network namespace of its own, from the very layer of the image."""
    if os.geteuid() != 0:
        pytest.fail("needs root, as the whole lab does")
    archive = bundle.folder / bundle.image("kube-proxy").archive
    images = tmp_path / "images"
    images.mkdir()
    run("tar", "-xf", archive, "-C", images)
    index = json.loads((images / "index.json").read_text())
    digest = bundle.image("kube-proxy").digest
    assert digest in {entry["digest"] for entry in index["manifests"]}
    manifest = json.loads((images / "blobs" / digest.replace(":", "/")).read_text())
    layer = images / "blobs" / manifest["layers"][0]["digest"].replace(":", "/")

    def chosen(prepare):
        root = tmp_path / "root"
        root.mkdir()
        try:
            run("tar", "-xzf", layer, "-C", root)
            inside = f"{prepare}\niptables -w -L -n > /dev/null && iptables --version"
            script = f"mount -t proc proc {root}/proc && chroot {root} sh -ec '{inside}'"
            return run("unshare", "--net", "--mount", "sh", "-ec", script).strip()
        finally:
            run("rm", "-rf", root)

    legacy, modern = "xtables-legacy-multi iptables", "xtables-nft-multi iptables"
    rules = "for n in 1 2 3 4; do {} -A FORWARD -j ACCEPT; done"
    canary = "{} -t mangle -N KUBE-KUBELET-CANARY"
    assert "nf_tables" in chosen("true")
    assert "legacy" in chosen(rules.format(legacy))
    assert "legacy" in chosen(canary.format(legacy))
    assert "nf_tables" in chosen(f"{canary.format(modern)}; {rules.format(legacy)}")
