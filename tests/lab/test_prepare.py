"""A bare host becomes one that kubeadm can use, whatever comes between; and is taken back whole."""

import asyncio

import pytest

from haechi.domains.clusters.host import registry_trust, runtime
from haechi.domains.clusters.host.errors import HostAway, HostDiskFull, ImagesNotImported
from haechi.testing.waiting import eventually
from lab import faults

from .hosting import options, work

# What nvidia's toolkit writes: a main file of its own, and a runtime beside runc.
NVIDIA = """\
version = 3

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.nvidia]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.nvidia.options]
BinaryName = "/usr/bin/nvidia-container-runtime"
"""


async def prepare(shell, bundle, role="worker", **more) -> list[str]:
    lines = []
    await work(bundle).prepare(
        shell,
        role,
        options(**more),
        bundle.kubernetes,
        log=lines.append,
        progress=lambda ratio: None,
    )
    return lines


async def taken_back(shell, bundle, before) -> list:
    await work(bundle).clean(shell, log=print)
    return work(bundle).differences(before, await work(bundle).snapshot(shell))


async def test_prepared_once_then_nothing_to_do_then_taken_back(bare_host, reach, bundle):
    async with await reach.shell(bare_host, keeper=True) as shell:
        before = await work(bundle).snapshot(shell)
        ratios = []
        await work(bundle).prepare(
            shell,
            "control_plane",
            options(),
            bundle.kubernetes,
            log=print,
            progress=ratios.append,
        )
        assert ratios == sorted(ratios) and ratios[-1] == 1.0
        assert await bare_host.shell("sysctl -n net.ipv4.ip_forward") == "1"
        assert bundle.kubernetes in await bare_host.shell("kubelet --version")
        assert await bare_host.shell("systemctl is-enabled kubelet") == "enabled"
        images = await bare_host.shell("ctr -n k8s.io images ls -q")
        for image in bundle.images:
            assert image.reference in images
        config = await bare_host.shell("containerd config dump")
        assert "SystemdCgroup = true" in config and "restrict_oom_score_adj = true" in config
        assert await bare_host.holds("! systemctl is-active haproxy")
        assert work(bundle).differences(before, await work(bundle).snapshot(shell))

        again = await prepare(shell, bundle, "control_plane")
        assert any(line.startswith("0 files written") for line in again)
        assert not any("images:" in line or "containerd:" in line for line in again)

        assert await taken_back(shell, bundle, before) == []
        assert await taken_back(shell, bundle, before) == []


async def test_forwarding_holds_after_a_reboot_in_the_middle(bare_host, reach, bundle):
    async with await reach.shell(bare_host) as shell:
        started = asyncio.Event()
        preparing = asyncio.get_running_loop().create_task(
            work(bundle).prepare(
                shell,
                "worker",
                options(),
                bundle.kubernetes,
                log=print,
                progress=lambda ratio: ratio > 0.1 and started.set(),
            )
        )
        await started.wait()
        await bare_host.kill()
        with pytest.raises(HostAway):
            await preparing
        await bare_host.start()
        await prepare(shell, bundle)
        await bare_host.reboot()
        await bare_host.until("systemctl is-active containerd", "containerd is back")
        assert await bare_host.shell("sysctl -n net.ipv4.ip_forward") == "1"
        assert "kube-proxy" in await bare_host.shell("ctr -n k8s.io images ls -q")


async def test_a_connection_that_dies_in_the_middle_of_it(bare_host, reach, bundle):
    async with await reach.shell(bare_host, keeper=True) as shell:
        started = asyncio.Event()
        preparing = asyncio.get_running_loop().create_task(
            work(bundle).prepare(
                shell,
                "worker",
                options(),
                bundle.kubernetes,
                log=print,
                progress=lambda ratio: ratio > 0.1 and started.set(),
            )
        )
        await started.wait()
        await faults.cut_ssh(bare_host)
        with pytest.raises(HostAway):
            await preparing
        await prepare(shell, bundle)
        assert await bare_host.holds("! ls /usr/local/bin/.*.part /opt/cni/bin/.*.part")


@pytest.mark.parametrize("disk", ["/var/lib/containerd", "/opt"])
async def test_a_disk_that_is_full_in_the_middle_of_the_bundle(site, reach, bundle, disk):
    host = await site.host("small", small_disks={disk: "12m"})
    async with await reach.shell(host) as shell:
        before = await work(bundle).snapshot(shell)
        with pytest.raises((HostDiskFull, ImagesNotImported)) as caught:
            await prepare(shell, bundle)
        assert caught.value.data["host"] == host.name
        assert "space" in str(caught.value.data).lower()
        assert await taken_back(shell, bundle, before) == []


async def test_files_and_services_of_others_come_back(bare_host, reach, bundle):
    await bare_host.shell(
        "install -d /etc/containerd; echo '# mine' > /etc/containerd/config.toml\n"
        "printf '#!/bin/sh\\necho mine\\n' > /usr/local/bin/kubectl\n"
        "chmod 750 /usr/local/bin/kubectl; echo 'x 1' > /etc/cni-of-mine"
    )
    async with await reach.shell(bare_host, keeper=True) as shell:
        before = await work(bundle).snapshot(shell)
        await prepare(shell, bundle, "control_plane")
        assert "mine" not in await bare_host.shell("cat /etc/containerd/config.toml")
        # As where the power was lost in the middle of writing.
        await bare_host.shell("touch /etc/.haechi.aBcDeF /etc/systemd/system/.haechi.aBcDeF")
        assert await taken_back(shell, bundle, before) == []
    assert await bare_host.shell("cat /etc/containerd/config.toml") == "# mine"
    assert await bare_host.shell("kubectl") == "mine"


# An image without any registry: what `sleep` needs of the host itself.
SLEEP = """\
tar -C / -ch usr/bin/sleep lib64/ld-linux-x86-64.so.2 lib/x86_64-linux-gnu/libc.so.6 |
  docker import - sleep > /dev/null
for name in always never; do
  [ $name = always ] && policy=always || policy=no
  docker run -d --name $name --restart $policy sleep /usr/bin/sleep infinity > /dev/null
done
"""


async def test_docker_that_was_there_goes_on_and_gets_its_own_containerd_back(
    docker_host, reach, bundle
):
    await docker_host.shell(SLEEP)
    own = await docker_host.shell("containerd --version")
    running = "docker inspect -f '{{.State.Running}} {{.State.Pid}}' always never"
    pids = await docker_host.shell(running)
    async with await reach.shell(docker_host) as shell:
        before = await work(bundle).snapshot(shell)
        await prepare(shell, bundle)
        assert bundle.versions["containerd"] in await docker_host.shell("containerd --version")
        await docker_host.until("docker info > /dev/null", "Docker runs on our containerd")
        assert await docker_host.shell(running) == pids  # they were not even restarted
        await docker_host.shell("docker restart -t 1 always")
        await docker_host.shell("docker run -d --name late --rm sleep /usr/bin/sleep infinity")

        await docker_host.shell("docker rm -f late")
        assert await taken_back(shell, bundle, before) == []
    assert await docker_host.shell("containerd --version") == own
    assert (await docker_host.shell(running)).count("true") == 2
    await docker_host.shell("docker restart -t 1 always never")
    assert (await docker_host.shell(running)).count("true") == 2


async def test_gpu_tools_do_not_lose_the_settings(prepared_hosts, reach):
    (node,) = await prepared_hosts(1)
    async with await reach.shell(node) as shell:
        # A drop-in of theirs beside ours: both hold.
        await node.shell(f"cat > {runtime.DROP_INS}/99-nvidia.toml", stdin=NVIDIA.encode())
        assert await registry_trust.check(shell) == []
        assert "nvidia-container-runtime" in await node.shell("containerd config dump")
        # Their older way: the main file is written anew.
        await node.shell(f"cat > {runtime.CONTAINERD_CONFIG}", stdin=NVIDIA.encode())
        await node.shell(f"mv {runtime.DROP_INS} {runtime.DROP_INS}.away")
        lost = await registry_trust.check(shell)
        assert any("config_path" in one for one in lost)
        assert await registry_trust.repair(shell, log=print)
        assert await registry_trust.check(shell) == []
        assert not await registry_trust.repair(shell, log=print)
        assert "nvidia-container-runtime" in await node.shell("containerd config dump")
        await eventually(lambda: node.holds("ctr version"), 60)
