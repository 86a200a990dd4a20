"""Certificates that have ended already: of a site that was off for long, or of a host that was."""

import base64
from datetime import UTC, datetime, timedelta

import pytest
import yaml

from haechi.core.access import SYSTEM
from haechi.domains.clusters.certificates import KUBELET_CLIENT
from haechi.domains.clusters.host.ports import Ran
from haechi.testing.upkeep import YEAR, UpkeepSite, certificate

THREE = ("dev-m", "dev-n", "dev-o")
KEY = "-----BEGIN PRIVATE KEY-----\nof the kubelet\n-----END PRIVATE KEY-----\n"


def ended():
    return datetime.now(UTC) - timedelta(days=3)


class Nodes:
    """Kubelets with a certificate each, and control planes that can make another."""

    def __init__(self, world):
        self.world = world
        self.lab = UpkeepSite(world.site)
        self.order = []
        self.made_for = []

    def prepare(self, device_id):
        shell = self.lab.prepare(device_id)
        shell.put(KUBELET_CLIENT, certificate(datetime.now(UTC) + YEAR))
        shell.on("sed -n", do=lambda _: Ran(0, shell.text(KUBELET_CLIENT)))
        shell.on("ln -sfn", do=lambda call: self._link(shell, call.command.split()))
        shell.on(lambda line: "kubeadm kubeconfig user" in line, do=self._user)
        for word in ("kubeadm certs renew", "systemctl restart kubelet"):
            shell.on(word, do=lambda _, word=word: self._note(device_id, word.split()[-1]))
        shell.on(lambda line: "' haechi-hold " in line, do=lambda _: self._note(device_id, "hold"))
        shell.on(
            lambda line: "' haechi-restart " in line,
            do=lambda call: self._note(device_id, call.command.split()[-3]),
        )
        return shell

    def _note(self, device_id, what):
        self.order.append((device_id, what))
        if what == "renew":
            self.lab.ends_at = datetime.now(UTC) + YEAR

    @staticmethod
    def _link(shell, words):
        shell.put(words[-1], shell.text(words[-2]), shell.files[words[-2]].mode)

    def _user(self, call):
        self.made_for.append(call.command.partition("--client-name ")[2].split()[0])
        pem = certificate(datetime.now(UTC) + YEAR)
        data = {
            "client-certificate-data": base64.b64encode(pem.encode()).decode(),
            "client-key-data": base64.b64encode(KEY.encode()).decode(),
        }
        return Ran(0, yaml.safe_dump({"users": [{"name": "x", "user": data}]}))

    def let_kubelet_end(self, device_id, ends_at=None):
        self.shell(device_id).put(KUBELET_CLIENT, certificate(ends_at or ended()), 0o600)

    def shell(self, device_id):
        return self.world.site.hosts.hosts[device_id]

    async def renew(self, cluster_id, *, every=False):
        operation = await self.world.upkeep.renew_certificates(cluster_id, by=SYSTEM, every=every)
        return await self.world.ended(operation)


@pytest.fixture
def nodes(world):
    made = Nodes(world)
    for device_id in ("dev-m", "dev-a", "dev-b"):
        made.prepare(device_id)
    return made


@pytest.fixture
async def three(world, nodes):
    return await world.formed_of_three(nodes.prepare)


async def test_a_kubelet_whose_certificate_has_ended_gets_another(world, nodes):
    """It cannot ask for one any more: the API knows it by the very certificate that has ended."""
    cluster_id = await world.formed()
    nodes.let_kubelet_end("dev-a")
    done = await nodes.renew(cluster_id)
    assert done.state == "succeeded", await world.log(done)
    shell = nodes.shell("dev-a")
    assert nodes.made_for == ["system:node:alpha"]
    assert KEY in shell.text(KUBELET_CLIENT)
    assert shell.files[KUBELET_CLIENT].mode == 0o600
    assert ("dev-a", "kubelet") in nodes.order
    assert KEY not in await world.log(done)
    assert done.ctx["result"]["kubelets"] == ["dev-a"]
    assert ("dev-b", "kubelet") not in nodes.order


async def test_a_kubelet_that_still_has_time_renews_its_own(world, nodes):
    cluster_id = await world.formed()
    nodes.let_kubelet_end("dev-a", datetime.now(UTC) + timedelta(days=2))
    done = await nodes.renew(cluster_id)
    assert done.state == "succeeded", await world.log(done)
    assert nodes.made_for == []
    assert ("dev-a", "kubelet") in nodes.order


async def test_a_kubelet_that_stays_without_one_is_named(world, nodes):
    cluster_id = await world.formed()
    nodes.let_kubelet_end("dev-a")
    nodes.shell("dev-a").on("ln -sfn")
    done = await nodes.renew(cluster_id)
    assert done.error["code"] == "clusters.certificates_not_renewed"
    assert "alpha/kubelet" in done.error["data"]["names"]


async def test_a_kubelet_that_no_control_plane_can_help_is_said_with_the_reason(world, nodes):
    cluster_id = await world.formed()
    nodes.let_kubelet_end("dev-a")
    nodes.shell("dev-m").on(
        lambda line: "kubeadm kubeconfig user" in line, status=1, stderr="error: no ca.key"
    )
    done = await nodes.renew(cluster_id)
    assert done.error["code"] == "clusters.host_command_failed"
    assert "no ca.key" in await world.log(done)


async def test_where_all_has_ended_every_control_plane_gets_its_own_before_any_is_restarted(
    world, nodes, three
):
    """Members of etcd trust each other no more: none would find a majority when it comes back. And
    a kubelet that may not log in starts nothing.
    """
    for device_id in THREE:
        nodes.let_kubelet_end(device_id)
    nodes.lab.ends_at = ended()
    nodes.order.clear()
    done = await nodes.renew(three)
    assert done.state == "succeeded", await world.log(done)
    restarted = nodes.order.index(next(one for one in nodes.order if one[1] == "hold"))
    before = nodes.order[:restarted]
    for device_id in THREE:
        assert (device_id, "renew") in before
        assert (device_id, "kubelet") in before
    assert sorted(done.ctx["result"]["renewed"]) == sorted(THREE)


async def test_a_renewal_that_fails_leaves_no_control_plane_held_back(world, nodes):
    cluster_id = await world.formed()
    nodes.lab.ends_at = ended()
    shell = nodes.shell("dev-m")
    shell.on(
        lambda line: "' haechi-hold " in line, status=75, stderr="still running: kube-apiserver"
    )
    done = await nodes.renew(cluster_id)
    assert done.error["code"] == "clusters.host_command_failed"
    pods = [line for line in shell.commands() if "' haechi-hold " in line or "release" in line]
    assert "' haechi-release " in pods[-1]


async def test_what_has_not_ended_is_renewed_one_after_the_other_as_ever(world, nodes, three):
    nodes.lab.ends_at = datetime.now(UTC) + timedelta(days=10)
    nodes.order.clear()
    done = await nodes.renew(three, every=True)
    assert done.state == "succeeded", await world.log(done)
    assert nodes.order[1][1] == "etcd"
