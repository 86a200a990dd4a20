"""Of a kubelet's journal, the line that says why."""

from haechi.domains.clusters.host.errors import CommandFailed
from haechi.domains.clusters.journal import explained, telling_line
from haechi.testing.hosts import FakeHosts

CONFIG = (
    'E1129 16:00:01.1 1 run.go:72] "command failed" err="failed to load kubelet config file, '
    'path: /var/lib/kubelet/config.yaml, error: no such file"'
)
CNI = (
    'E1129 16:00:02.1 1 kubelet.go:2] "Container runtime network not ready" '
    'networkReady="NetworkReady=false reason:NetworkPluginNotReady cni plugin not initialized"'
)
UNAUTHORIZED = 'E1129 1 kubelet_node_status.go:1] "Unable to register node" err="Unauthorized"'


def test_what_every_young_node_complains_about_is_passed_over():
    assert telling_line([UNAUTHORIZED, CNI]) == "Unauthorized"
    assert telling_line([CONFIG, CNI]).startswith("failed to load kubelet config file")


def test_without_a_telling_line_the_last_one_is_told():
    assert telling_line(["Started kubelet.", "", "bye"]) == "bye"
    assert telling_line([]) == ""


async def test_a_kubelet_that_runs_leaves_the_commands_own_words_first():
    shell = FakeHosts().add("dev-a", name="alpha")
    shell.on("systemctl is-active kubelet", stdout="active\n")
    shell.on("journalctl", stdout=f"{UNAUTHORIZED}\n{CNI}\n")
    failed = CommandFailed(host="alpha", command="kubeadm", status=1, message="mark-control-plane")
    lines: list[str] = []
    told = await explained(shell, "initialise", failed, lines.append)
    assert told.code == "clusters.host_step_failed"
    assert told.data["reason"] == "mark-control-plane (kubelet: Unauthorized)"
    assert any("Unauthorized" in line for line in lines)


async def test_a_kubelet_that_was_stopped_is_not_one_that_cannot_start():
    """As after `kubeadm reset`: what its journal says is of an earlier life."""
    shell = FakeHosts().add("dev-a", name="alpha")
    shell.on("systemctl is-active kubelet", stdout="inactive\n", status=3)
    shell.on("journalctl", stdout=f"{UNAUTHORIZED}\nStopped kubelet.service\n")
    own = 'a Node with name "alpha" already exists'
    failed = CommandFailed(host="alpha", command="kubeadm", status=1, message=own)
    told = await explained(shell, "join", failed, lambda _: None)
    assert told.code == "clusters.host_step_failed"
    assert told.data["reason"].startswith(own)


async def test_a_kubelet_that_fails_again_and_again_is_told_in_its_own_words():
    shell = FakeHosts().add("dev-a", name="alpha")
    shell.on("systemctl is-active kubelet", stdout="activating\n", status=3)
    shell.on("journalctl", stdout=f"{CONFIG}\n")
    failed = CommandFailed(host="alpha", command="kubeadm", status=1, message="timed out")
    told = await explained(shell, "join", failed, lambda _: None)
    assert told.code == "clusters.kubelet_not_starting"
    assert told.data["reason"].startswith("failed to load kubelet config file")


async def test_a_host_that_cannot_be_asked_leaves_the_error_as_it_is():
    hosts = FakeHosts()
    shell = hosts.add("dev-a", name="alpha")
    hosts.turn_off("dev-a")
    failed = CommandFailed(host="alpha", command="kubeadm", status=1, message="x")
    assert await explained(shell, "join", failed, lambda _: None) is failed
