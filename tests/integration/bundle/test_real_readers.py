"""Docker and apt, which know nothing of haechi, take what the bundle holds."""

import os
import subprocess
import uuid
from pathlib import Path

import pytest

from haechi.domains.clusters.bundle import archive

from .conftest import PLATFORM

SOCKET = "/var/run/docker.sock"


def run(*argv, check=True):
    words = [str(word) for word in argv]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0 or not check, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_programs_run_on_this_machine(bundle):
    for part in bundle.files_for("control-plane", "program", "plugin"):
        assert run(bundle.path_of(part)).strip() == part.name


@pytest.mark.docker
@pytest.mark.skipif(not Path(SOCKET).exists() or os.geteuid() != 0, reason="needs Docker and root")
def test_docker_loads_the_images_and_runs_them(bundle, tmp_path):
    """Under names of this test alone: the daemon is shared."""
    name = f"bundle-{uuid.uuid4().hex[:12]}.example/test"
    programs = {"/usr/bin/kubelet": bundle.folder / "bin/kubelet"}
    lower = archive.program_layer({"/ctr": bundle.folder / "bin/ctr"}, tmp_path / "lower")
    upper = archive.program_layer(programs, tmp_path / "upper")
    images = [
        archive.NewImage(f"{name}:{tag}", PLATFORM, layers, [at], "2026-01-01T00:00:00Z", "65535:1")
        for tag, layers, at in (
            ("1", [lower], "/ctr"),
            ("2", [lower, upper], "/usr/bin/kubelet"),
        )
    ]
    archive.write(tmp_path / "images.tar", images)
    try:
        said = run("docker", "load", "--input", tmp_path / "images.tar")
        assert f"Loaded image: {name}:2" in said
        for tag, expected in (("1", "ctr"), ("2", "kubelet")):
            assert (
                run("docker", "run", "--rm", "--network=none", f"{name}:{tag}").strip() == expected
            )
        asked = "{{.Architecture}} {{.Config.User}} {{len .RootFS.Layers}}"
        said = run("docker", "image", "inspect", "--format", asked, f"{name}:2")
        assert said.split() == [bundle.arch, "65535:1", "2"]
    finally:
        run("docker", "rmi", "--force", f"{name}:1", f"{name}:2", check=False)


def test_apt_finds_everything_in_the_host_part_and_nothing_elsewhere(bundle, tmp_path):
    """A root of apt's own, as empty as a host can be; nothing is installed."""
    for folder in (
        "state/lists/partial",
        "cache/archives/partial",
        "etc/preferences.d",
        "etc/apt.conf.d",
    ):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "status").write_text("")
    (tmp_path / "sources.list").write_text(f"deb [trusted=yes] file:{bundle.folder}/host ./\n")
    apt = [
        *("apt-get", "-q", "-o", f"APT::Architecture={bundle.arch}", "-o", "APT::Architectures="),
        *("-o", f"Dir::State={tmp_path}/state", "-o", f"Dir::State::status={tmp_path}/status"),
        *("-o", f"Dir::Cache={tmp_path}/cache", "-o", f"Dir::Etc={tmp_path}/etc"),
        *("-o", f"Dir::Etc::sourcelist={tmp_path}/sources.list", "-o", "Dir::Etc::sourceparts=-"),
        *("-o", "APT::Sandbox::User=root", "-o", "Debug::NoLocking=1"),
    ]
    said = run(*apt, "update")
    assert "Err" not in said
    said = run(*apt, "install", "--simulate", "--no-install-recommends", *bundle.host.packages)
    installed = {line.split()[1] for line in said.splitlines() if line.startswith("Inst ")}
    assert installed == {*bundle.host.packages, "libfake1"}
    run(*apt, "--download-only", "--yes", "install", *bundle.host.packages)
