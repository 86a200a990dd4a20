"""kubeadm's configuration documents and commands, as they are written on hosts.

`HAECHI_GOLDEN=write` renews the files.
"""

import os
from pathlib import Path

import pytest
import yaml

from haechi.core.secrets import Secret
from haechi.domains.clusters import kubeadm, manifests, tokens
from haechi.domains.clusters.model import FormOptions, HostProfile, Member, MemberState

FOLDER = Path(__file__).parent / "kubeadm"
CLUSTER = "clu-aaaaaaaaaaaaaaaa"
TOKEN = Secret("abcdef.0123456789abcdef")
KEY = Secret("0" * 64)
LAB = HostProfile(
    kubelet={"failCgroupV1": False, "featureGates": {"KubeletInUserNamespace": True}},
    kube_proxy={"conntrack": {"maxPerCore": 0, "min": 0}},
    ignore_preflight=["SystemVerification"],
)


def member(role: str = "control_plane", name: str = "master") -> Member:
    return Member(
        cluster_id=CLUSTER,
        device_id="dev-aaaaaaaaaaaaaaaa",
        role=role,
        node_name=name,
        address="10.77.0.11",
        state=MemberState.JOINING,
        message="",
        observed={},
        joined_at=None,
        left_at=None,
    )


def init(options: FormOptions) -> str:
    return kubeadm.to_yaml(
        kubeadm.init_documents(CLUSTER, member(), options, version="1.36.3", token=TOKEN)
    )


CASES = {
    "init": lambda: init(FormOptions()),
    "init-profile": lambda: init(
        FormOptions(
            pod_cidr="10.200.0.0/16",
            service_cidr="10.201.0.0/16",
            run_ai_on_control_plane=True,
            profile=LAB,
        )
    ),
    "join-worker": lambda: kubeadm.to_yaml(
        [kubeadm.join_document(member("worker", "edge-1"), FormOptions(), token=TOKEN)]
    ),
    "join-control-plane": lambda: kubeadm.to_yaml(
        [
            kubeadm.join_document(
                member(name="master-2"),
                FormOptions(profile=LAB),
                token=TOKEN,
                certificate_key=KEY,
            )
        ]
    ),
    "upload-certificates": lambda: kubeadm.to_yaml(
        kubeadm.upload_documents(
            CLUSTER, member(), FormOptions(), version="1.36.3", certificate_key=KEY
        )
    ),
    "discovery": lambda: kubeadm.to_yaml([kubeadm.discovery_document(CLUSTER, "Q0E=")]),
    "token": lambda: kubeadm.to_yaml([tokens.token_secret(TOKEN, "2026-01-01T00:00:00.000Z")]),
    "flannel": lambda: kubeadm.to_yaml(
        manifests.flannel(
            image="ghcr.io/flannel-io/flannel:v0.28.10",
            pod_cidr="10.244.0.0/16",
            pull_policy="IfNotPresent",
        )
    ),
    "flannel-beside-packages": lambda: kubeadm.to_yaml(
        manifests.flannel(
            image="ghcr.io/flannel-io/flannel:v0.28.10",
            pod_cidr="10.244.0.0/16",
            pull_policy="IfNotPresent",
            plugin="ghcr.io/flannel-io/flannel-cni-plugin:v1.9.1-flannel3",
        )
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_document(case):
    made = CASES[case]()
    path = FOLDER / f"{case}.yaml"
    if os.environ.get("HAECHI_GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(made)
    assert made == path.read_text()
    assert all(isinstance(one, dict) for one in yaml.safe_load_all(made))


def test_commands_hold_no_secret_and_run_in_a_unit_that_can_be_found():
    for argv in (
        kubeadm.init_argv(),
        kubeadm.join_argv(),
        kubeadm.upload_argv(),
        kubeadm.reset_argv(),
    ):
        line = " ".join(kubeadm.in_unit(argv))
        assert line.startswith("systemd-run --quiet --wait --pipe --collect --unit=haechi-kubeadm ")
        assert TOKEN.reveal() not in line
        assert KEY.reveal() not in line
    assert kubeadm.init_argv() == [
        "kubeadm",
        "init",
        "--config",
        "/etc/haechi/kubeadm.yaml",
        "--skip-token-print",
    ]
    assert kubeadm.join_argv() == ["kubeadm", "join", "--config", "/etc/haechi/kubeadm.yaml"]
