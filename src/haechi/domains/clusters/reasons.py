"""Why a node or device is judged as it is: a fixed set of words, said in both languages.

A reason is what is known, no guess: from outside, a host that is off and one whose link is down
look the same until it returns (its boot id tells then).
"""

from collections.abc import Mapping
from typing import Final, Literal

from haechi.errors import Text

Reason = Literal[
    "connected",
    "never_called",
    "server_start",
    "no_word",
    "neighbours_agree",
    "unreachable",
    "path_down",
    "host_stuck",
    "sshd_dead",
    "agent_dead",
    "kubelet_dead",
    "runtime_dead",
    "cut_off_from_api",
    "not_ready",
    "api_away",
    "address_changed",
]

TEXTS: Final[Mapping[Reason, Text]] = {
    "connected": Text("정상", "Answers"),
    "never_called": Text("아직 연결된 적이 없음", "Has never called"),
    "server_start": Text(
        "서버가 막 시작되어 아직 소식을 기다리는 중", "The server has just started and waits for it"
    ),
    "no_word": Text("소식이 없음", "No word from it"),
    "neighbours_agree": Text("이웃 장치에서도 닿지 않음", "Its neighbours cannot reach it either"),
    "unreachable": Text(
        "전원이 꺼졌거나 네트워크 연결이 끊김", "The host is off, or its link is down"
    ),
    "path_down": Text(
        "이웃 장치에서는 닿지만 서버에서는 닿지 않음 (서버와 장치 사이의 네트워크)",
        "Neighbours reach it, the server does not: the network between server and device",
    ),
    "host_stuck": Text(
        "네트워크에는 응답하지만 프로그램이 멈춤 (과부하, 디스크 또는 정지)",
        "It answers on the network but no program does: overloaded, out of disk, or halted",
    ),
    "sshd_dead": Text(
        "호스트는 켜져 있지만 SSH가 응답하지 않음", "The host is on, its SSH does not answer"
    ),
    "agent_dead": Text(
        "호스트는 켜져 있지만 haechi 에이전트가 실행되지 않음",
        "The host is on, its haechi agent does not run",
    ),
    "kubelet_dead": Text(
        "호스트는 켜져 있지만 kubelet이 응답하지 않음",
        "The host is on, its kubelet does not answer",
    ),
    "runtime_dead": Text(
        "컨테이너 런타임(containerd)이 응답하지 않음",
        "The container runtime (containerd) does not answer",
    ),
    "cut_off_from_api": Text(
        "kubelet은 실행 중이지만 Kubernetes API에 보고하지 못함",
        "The kubelet runs but does not get through to the Kubernetes API",
    ),
    "not_ready": Text("노드가 준비되지 않음", "The node is not ready"),
    "api_away": Text(
        "Kubernetes API가 응답하지 않음 (실행 중인 AI는 계속 동작)",
        "The Kubernetes API does not answer; AIs that run go on",
    ),
    "address_changed": Text("다른 주소에서 발견됨", "It was found at another address"),
}

REMEDIES: Final[Mapping[Reason, Text]] = {
    "unreachable": Text(
        "장치의 전원과 무선 연결을 확인하세요.", "Check the device's power and its radio link."
    ),
    "path_down": Text(
        "서버와 장치 사이의 스위치, 라우터, 방화벽을 확인하세요.",
        "Check switches, routers and firewalls between server and device.",
    ),
    "host_stuck": Text(
        "장치를 다시 시작하세요.", "Restart the device; look at its load and disk first."
    ),
    "sshd_dead": Text(
        "호스트에서 'systemctl restart ssh'를 실행하세요.",
        "Run 'systemctl restart ssh' on the host.",
    ),
    "agent_dead": Text(
        "에이전트 로그를 확인하고 다시 시작하세요.", "Read the agent's log and start it again."
    ),
    "kubelet_dead": Text(
        "호스트에서 'systemctl status kubelet'과 'journalctl -u kubelet'을 확인하세요. 오래 "
        "꺼져 있던 호스트라면 인증서가 만료되었을 수 있습니다: 'haechi cluster renew'.",
        "See 'systemctl status kubelet' and 'journalctl -u kubelet' on the host. Of one that "
        "was off for long the certificate may have ended: `haechi cluster renew`.",
    ),
    "runtime_dead": Text(
        "호스트에서 'systemctl restart containerd'를 실행하세요.",
        "Run 'systemctl restart containerd' on the host.",
    ),
    "cut_off_from_api": Text(
        "그 노드에서 제어 노드로 가는 네트워크를 확인하세요.",
        "Check the network from that node to the control planes.",
    ),
    "address_changed": Text(
        "작업 노드는 저절로 다시 연결됩니다. 제어 노드는 'haechi cluster readdress'를 실행하세요.",
        "A worker is led home by itself; for a control plane run `haechi cluster readdress`.",
    ),
    "api_away": Text(
        "제어 노드의 전원과 네트워크를 확인하세요.",
        "Check power and network of the control planes.",
    ),
}

Advice = Literal["two_control_planes", "even_control_planes", "no_backup"]

WARNINGS: Final[Mapping[Advice, Text]] = {
    "two_control_planes": Text(
        "제어 노드가 두 대면 어느 하나만 꺼져도 etcd의 과반수가 없어 API가 멈춥니다. 한 대를 더 "
        "추가하거나 한 대로 줄이세요.",
        "With two control planes the API stands still as soon as either is away, for etcd has no "
        "majority then. Add a third, or go back to one.",
    ),
    "even_control_planes": Text(
        "제어 노드의 수가 짝수면 하나 적은 홀수보다 더 많은 고장을 견디지 못합니다.",
        "An even number of control planes survives no more failures than one fewer would.",
    ),
    "no_backup": Text(
        "아직 백업이 없습니다. 'haechi cluster backup'으로 백업하세요.",
        "There is no backup yet: `haechi cluster backup`.",
    ),
}


def warnings(control_planes: int, *, backed_up: bool) -> list[Advice]:
    """What speaks against leaving a cluster as it is."""
    found: list[Advice] = []
    if control_planes == 2:
        found.append("two_control_planes")
    elif control_planes and control_planes % 2 == 0:
        found.append("even_control_planes")
    if not backed_up:
        found.append("no_backup")
    return found
