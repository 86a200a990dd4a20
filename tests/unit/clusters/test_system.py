"""What the pods of its own lack that a cluster needs."""

from dataclasses import replace

import pytest

from haechi.core.operations.model import error_text
from haechi.domains.clusters import system
from haechi.domains.clusters.ports import Pod

NODES = {"cp-1": "dev-m", "edge-1": "dev-a"}


def pod(name, node, label, *, namespace="kube-system", ready=True, **more):
    key, _, value = label.partition("=")
    return Pod(namespace, name, node, "Running", ready, 0, {key: value}, **more)


def whole():
    found = []
    for name in NODES:
        found.append(pod(f"kube-proxy-{name}", name, "k8s-app=kube-proxy"))
        found.append(pod(f"flannel-{name}", name, "app=flannel", namespace="kube-flannel"))
    found += [pod(f"coredns-{n}", "cp-1", "k8s-app=kube-dns") for n in (1, 2)]
    return found


def changed(name, **values):
    return [replace(one, **values) if one.name == name else one for one in whole()]


def found(pods, nodes=NODES):
    return [*system.on_nodes(nodes, pods), *system.names(nodes, pods)]


def shown(finding, language="en"):
    return error_text({"code": finding.code, "data": finding.data}, language)


def test_of_a_cluster_that_is_well_nothing_is_said():
    assert found(whole()) == []


@pytest.mark.parametrize(
    ("name", "code", "namespace"),
    [
        ("kube-proxy-edge-1", "clusters.services_down", "kube-system"),
        ("flannel-edge-1", "clusters.pod_network_down", "kube-flannel"),
    ],
)
def test_node_pod_fact_and_remedy_are_named(name, code, namespace):
    (one,) = found(changed(name, ready=False, reason="CrashLoopBackOff: back-off", restarts=4))
    assert (one.device_id, one.host, one.level, one.code) == ("dev-a", "edge-1", "error", code)
    said = shown(one)
    assert "edge-1" in said["detail"]
    assert f"({name})" in said["detail"]
    assert "CrashLoopBackOff: back-off (restarts: 4)" in said["detail"]
    assert f"kubectl -n {namespace} logs {name}" in said["remedy"]
    assert "노드 edge-1" in shown(one, "ko")["detail"]


def test_a_node_without_such_a_pod():
    pods = [one for one in whole() if one.name != "kube-proxy-edge-1"]
    (one,) = found(pods)
    assert (one.host, one.code) == ("edge-1", "clusters.system_pod_missing")
    assert "describe daemonset kube-proxy" in shown(one)["remedy"]


def test_a_pod_that_ended_and_was_replaced_says_nothing():
    old = pod("kube-proxy-old", "edge-1", "k8s-app=kube-proxy", ready=False)
    assert found([replace(old, phase="Failed"), *whole()]) == []
    assert found([old, *whole()]) == [], "one that is being replaced just now"


def test_nodes_that_are_not_asked_about_are_left_out():
    assert found(changed("kube-proxy-edge-1", ready=False), {"cp-1": "dev-m"}) == []


def test_names_are_down_only_where_no_coredns_answers():
    late = changed("coredns-1", ready=False)
    (weak,) = found(late)
    assert (weak.host, weak.level, weak.code) == ("cp-1", "warning", "clusters.names_weakened")
    assert "spec.nodeName=cp-1" in shown(weak)["remedy"]
    none = [replace(one, ready=False) if "coredns" in one.name else one for one in late]
    (down,) = found(none)
    assert (down.device_id, down.level, down.code) == ("dev-m", "error", "clusters.names_down")
    assert "coredns-1 (cp-1): Running; coredns-2 (cp-1): Running" in shown(down)["detail"]
    assert "describe pod -l k8s-app=kube-dns" in shown(down)["remedy"]
    (gone,) = found([one for one in whole() if "coredns" not in one.name])
    assert (gone.host, gone.code) == ("", "clusters.names_down")


def test_a_coredns_that_waits_for_a_node_is_no_nodes_fault():
    late = changed("coredns-1", node=None, ready=False, reason="Unschedulable", phase="Pending")
    assert found(late) == []
