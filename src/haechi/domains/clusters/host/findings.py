"""What may speak against a host, one class each; `preflight` decides when. Texts name the fact.

`level` is what it usually is; an `error` cannot be accepted, a `warning` can, by the last word of
its code. Data: `host`, and the fact's own fields.
"""

from typing import Any, ClassVar, Literal

from haechi.errors import Invalid, Text


class Finding(Invalid):
    level: ClassVar[Literal["error", "warning"]] = "error"

    def __init__(self, *, host: str, **facts: Any) -> None:
        super().__init__(host=host, **facts)


class UnsupportedSystem(Finding):
    code = "clusters.unsupported_system"
    detail = Text(
        "호스트 '{host}'의 운영체제({system})는 지원하지 않습니다.",
        "The system of host '{host}' ({system}) is not supported.",
    )
    remedy = Text(
        "Debian 12 이상 또는 Ubuntu 22.04 이상을 설치하세요.",
        "Install Debian 12 or Ubuntu 22.04, or newer.",
    )


class NoSystemd(Finding):
    code = "clusters.no_systemd"
    detail = Text(
        "호스트 '{host}'가 systemd로 실행되고 있지 않습니다 (PID 1: {init}).",
        "Host '{host}' does not run under systemd (process 1 is {init}).",
    )
    remedy = Text("systemd를 쓰는 설치로 바꾸세요.", "Use an installation with systemd.")


class UnsupportedArchitecture(Finding):
    code = "clusters.unsupported_architecture"
    detail = Text(
        "호스트 '{host}'의 프로세서({arch})는 지원하지 않습니다.",
        "The processor of host '{host}' ({arch}) is not supported.",
    )
    remedy = Text("amd64 또는 arm64 장치를 쓰세요.", "Use an amd64 or arm64 device.")


class BundleLacksPlatform(Finding):
    code = "clusters.bundle_lacks_platform"
    detail = Text(
        "호스트 '{host}'({platform})에 맞는 Kubernetes {version} 번들이 없습니다.",
        "There is no bundle of Kubernetes {version} for host '{host}' ({platform}).",
    )
    remedy = Text(
        "'haechi bundle create --platform {platform}'으로 만드세요. 여러 아키텍처를 섞으려면 같은 "
        "버전의 번들이 모두 있어야 합니다.",
        "Make one with `haechi bundle create --platform {platform}`. Hosts of several "
        "architectures need bundles of the same version.",
    )


class KernelTooOld(Finding):
    code = "clusters.kernel_too_old"
    detail = Text(
        "호스트 '{host}'의 커널 {kernel}이(가) 너무 오래되었습니다. {needed} 이상이 필요합니다.",
        "The kernel of host '{host}' ({kernel}) is too old; {needed} or newer is needed.",
    )
    remedy = Text("운영체제를 업데이트하세요.", "Update the system.")


class ModuleMissing(Finding):
    code = "clusters.module_missing"
    detail = Text(
        "호스트 '{host}'의 커널에 '{module}' 모듈이 없습니다.",
        "The kernel of host '{host}' has no module '{module}'.",
    )
    remedy = Text(
        "그 모듈이 있는 커널(예: 배포판 기본 커널)을 설치하세요.",
        "Install a kernel that has it, such as the distribution's own.",
    )


class CgroupV1(Finding):
    code = "clusters.cgroup_v1"
    detail = Text(
        "호스트 '{host}'가 cgroup v1을 쓰고 있어 kubelet이 시작되지 않습니다.",
        "Host '{host}' uses cgroup v1, with which kubelet does not start.",
    )
    remedy = Text(
        "커널 옵션 systemd.unified_cgroup_hierarchy=1로 cgroup v2를 켜고 재부팅하세요. 그럴 수 "
        "없는 호스트라면 kubelet 설정 failCgroupV1=false를 명시하세요.",
        "Turn on cgroup v2 by the kernel option systemd.unified_cgroup_hierarchy=1 and reboot. For "
        "hosts where that cannot be, give the kubelet setting failCgroupV1=false.",
    )


class FewCpus(Finding):
    code = "clusters.few_cpus"
    detail = Text(
        "제어 노드 호스트 '{host}'의 CPU가 {cpus}개뿐입니다. {needed}개가 필요합니다.",
        "Control-plane host '{host}' has {cpus} CPU; {needed} are needed.",
    )
    remedy = Text("다른 장치를 제어 노드로 고르세요.", "Choose another device as control plane.")


class LittleMemory(Finding):
    code = "clusters.little_memory"
    detail = Text(
        "호스트 '{host}'의 메모리가 {total_mb} MB입니다. {role}에는 {needed_mb} MB가 필요합니다.",
        "Host '{host}' has {total_mb} MB of memory; a {role} needs {needed_mb} MB.",
    )
    remedy = Text(
        "메모리를 늘리거나 다른 장치를 고르세요.", "Add memory, or choose another device."
    )
    korean: ClassVar[dict[str, str]] = {"control plane": "제어 노드", "worker": "작업 노드"}


class MemoryScarce(Finding):
    level = "warning"
    code = "clusters.memory_scarce"
    detail = Text(
        "호스트 '{host}'에서 쓸 수 있는 메모리가 {available_mb} MB뿐입니다.",
        "Host '{host}' has only {available_mb} MB of memory available.",
    )
    remedy = Text(
        "쓰지 않는 프로그램을 끄세요. AI를 실행할 여유가 부족할 수 있습니다.",
        "Stop what is not needed; there may be no room for AIs.",
    )


class DiskTooSmall(Finding):
    code = "clusters.disk_too_small"
    detail = Text(
        "호스트 '{host}'의 {mount}에 {free_mb} MB만 남아 있습니다. {needed_mb} MB가 필요합니다.",
        "Host '{host}' has {free_mb} MB free at {mount}; {needed_mb} MB are needed.",
    )
    remedy = Text(
        "공간을 비우거나 더 큰 디스크를 다세요.", "Free some space, or attach a larger disk."
    )


class DiskNearlyFull(Finding):
    level = "warning"
    code = "clusters.disk_nearly_full"
    detail = Text(
        "준비 후 호스트 '{host}'의 {mount}에 {left_percent}%만 남습니다. 15% 미만이면 Kubernetes가 "
        "AI를 내보낼 수 있습니다.",
        "After preparing, {mount} on host '{host}' has {left_percent} % left. Below 15 % "
        "Kubernetes may evict AIs.",
    )
    remedy = Text("공간을 비우세요.", "Free some space.")


class SwapOn(Finding):
    code = "clusters.swap_on"
    detail = Text(
        "호스트 '{host}'에서 스왑이 켜져 있습니다 ({swap}).",
        "Swap is on on host '{host}' ({swap}).",
    )
    remedy = Text(
        "'swapoff -a'로 끄고 /etc/fstab(또는 zram 서비스)에서도 빼세요.",
        "Turn it off with `swapoff -a`, and in /etc/fstab (or the zram service) as well.",
    )


class ClockWrong(Finding):
    code = "clusters.clock_wrong"
    detail = Text(
        "호스트 '{host}'의 시계가 서버와 {offset_s}초 다릅니다.",
        "The clock of host '{host}' is {offset_s} s off this server's.",
    )
    remedy = Text(
        "호스트와 서버에 NTP(chrony, systemd-timesyncd)를 설정하세요. 인증서가 시간에 따라 "
        "유효하므로 시계가 맞아야 합니다.",
        "Set up NTP (chrony, systemd-timesyncd) on host and server: certificates are valid by "
        "time.",
    )


class ClockOff(Finding):
    level = "warning"
    code = "clusters.clock_off"
    detail = Text(
        "호스트 '{host}'의 시계가 서버와 {offset_s}초 다릅니다.",
        "The clock of host '{host}' is {offset_s} s off this server's.",
    )
    remedy = Text(
        "호스트에 NTP를 설정하면 결과의 시각이 정확해집니다.",
        "Set up NTP on the host; times of results get more exact.",
    )


class PortTaken(Finding):
    code = "clusters.port_taken"
    detail = Text(
        "호스트 '{host}'의 {protocol} {port}번 포트({purpose})를 다른 프로그램이 쓰고 있습니다: "
        "{process}",
        "{protocol} port {port} of host '{host}' ({purpose}) is taken by another program: "
        "{process}",
    )
    remedy = Text(
        "그 프로그램을 멈추거나 다른 포트로 옮기세요 (ss -ltnp로 확인).",
        "Stop that program or move it to another port (`ss -ltnp` shows it).",
    )


class FirewallClosed(Finding):
    """A warning: the rules are read, no packet is sent."""

    level = "warning"
    code = "clusters.firewall_closed"
    detail = Text(
        "호스트 '{host}'의 방화벽이 다른 노드와 서버가 쓰는 포트를 막고 있습니다: {ports}",
        "The firewall of host '{host}' closes ports that other nodes and the server use: {ports}",
    )
    remedy = Text(
        "사이트 네트워크에 그 포트를 여세요. ufw: 'ufw allow 6443/tcp', firewalld: 'firewall-cmd "
        "--permanent --add-port=6443/tcp' 후 'firewall-cmd --reload', nftables: 막는 규칙보다 앞에 "
        "'tcp dport 6443 accept' 추가. 다른 방법으로 열려 있다면 이 경고를 이름으로 받아들이세요.",
        "Open them to the site's network. ufw: `ufw allow 6443/tcp`; firewalld: `firewall-cmd "
        "--permanent --add-port=6443/tcp`, then `firewall-cmd --reload`; nftables: `tcp dport 6443 "
        "accept` before the rule that drops. Where they are open in another way, accept this "
        "warning by name.",
    )


class OtherRuntime(Finding):
    level = "warning"
    code = "clusters.other_runtime"
    detail = Text(
        "호스트 '{host}'에서 다른 컨테이너 런타임({runtime})이 실행 중입니다. 그 컨테이너는 "
        "haechi의 containerd를 함께 쓰게 되고, 호스트를 되돌릴 때 한 번 다시 시작됩니다.",
        "Another container runtime ({runtime}) runs on host '{host}'. Its containers will share "
        "haechi's containerd, and are restarted once when the host is given back.",
    )
    remedy = Text(
        "필요 없으면 먼저 제거하세요. 그대로 써야 하면 이 경고를 이름으로 받아들이세요.",
        "Remove it first if it is not needed; to keep it, accept this warning by name.",
    )


class ExistingCluster(Finding):
    code = "clusters.existing_cluster"
    detail = Text(
        "호스트 '{host}'는 이미 다른 클러스터에 속해 있습니다 ({evidence}).",
        "Host '{host}' already belongs to a cluster ({evidence}).",
    )
    remedy = Text(
        "그 클러스터에서 먼저 빼세요(haechi의 것이면 '노드 제거'). 더 이상 쓰지 않는 것이면 "
        "kubelet 등을 멈춘 뒤 다시 점검하세요.",
        "Take it out of that cluster first (`haechi cluster remove` where it is haechi's). If "
        "nobody uses it any more, stop its services (kubelet …) and check again.",
    )


class Leftovers(Finding):
    code = "clusters.leftovers"
    detail = Text(
        "호스트 '{host}'에 이전 클러스터의 흔적이 {count}개 남아 있습니다: {items}",
        "Host '{host}' has {count} things left of an earlier cluster: {items}",
    )
    remedy = Text(
        "지워도 되면 'clean_leftovers'(--clean-leftovers)로 다시 실행하세요. haechi가 지우고 "
        "진행합니다.",
        "If they may go, run it again with `clean_leftovers` (--clean-leftovers): haechi removes "
        "them and goes on.",
    )


class PackagesMissing(Finding):
    code = "clusters.packages_missing"
    detail = Text(
        "호스트 '{host}'({system})에 필요한 패키지가 없고, 번들의 것은 {bundle_system}용이라 쓸 수 "
        "없습니다: {packages}",
        "Host '{host}' ({system}) lacks packages that it needs, and the bundle's are for "
        "{bundle_system}: {packages}",
    )
    remedy = Text(
        "호스트에서 apt-get install {packages}를 실행하거나, 인터넷이 되는 곳이면 "
        "'--source distribution'으로 구성하세요.",
        "Run apt-get install {packages} on the host, or form with `--source distribution` where "
        "there is internet.",
    )


class PackagesBroken(Finding):
    code = "clusters.packages_broken"
    detail = Text(
        "호스트 '{host}'에 설치가 끝나지 않은 패키지가 있습니다: {packages}",
        "Host '{host}' has packages that are not fully installed: {packages}",
    )
    remedy = Text(
        "호스트에서 'dpkg --configure -a'와 'apt-get -f install'을 실행하세요.",
        "Run `dpkg --configure -a` and `apt-get -f install` on the host.",
    )


class NetworkOverlap(Finding):
    code = "clusters.network_overlap"
    detail = Text(
        "클러스터의 {purpose} 대역 {cidr}이(가) 호스트 '{host}'의 네트워크 {network}와(과) "
        "겹칩니다.",
        "The cluster's {purpose} network {cidr} overlaps {network} of host '{host}'.",
    )
    remedy = Text(
        "겹치지 않는 대역을 지정하세요 (예: --pod-cidr 10.200.0.0/16).",
        "Give one that does not overlap, for example --pod-cidr 10.200.0.0/16.",
    )
    korean: ClassVar[dict[str, str]] = {"pod": "파드", "service": "서비스"}


class NoMachineId(Finding):
    code = "clusters.no_machine_id"
    detail = Text("호스트 '{host}'에 machine-id가 없습니다.", "Host '{host}' has no machine-id.")
    remedy = Text(
        "호스트에서 systemd-machine-id-setup을 실행하세요.",
        "Run systemd-machine-id-setup on the host.",
    )


class SameMachineId(Finding):
    code = "clusters.same_machine_id"
    detail = Text(
        "호스트 '{host}'의 machine-id가 {others}와(과) 같습니다. 복제한 디스크이거나 같은 장치를 "
        "두 번 등록한 것일 수 있습니다.",
        "The machine-id of host '{host}' is also that of {others}: a cloned disk, or one device "
        "registered twice.",
    )
    remedy = Text(
        "복제한 쪽에서 'rm /etc/machine-id /var/lib/dbus/machine-id; systemd-machine-id-setup'을 "
        "실행하고 재부팅하세요.",
        "On the clone, run `rm /etc/machine-id /var/lib/dbus/machine-id; "
        "systemd-machine-id-setup` and reboot.",
    )


class SameHostName(Finding):
    level = "warning"
    code = "clusters.same_host_name"
    detail = Text(
        "호스트 '{host}'의 이름 '{host_name}'이(가) {others}와(과) 같습니다.",
        "The host name of '{host}', '{host_name}', is also that of {others}.",
    )
    remedy = Text(
        "hostnamectl set-hostname으로 서로 다른 이름을 주세요.",
        "Give them different names with hostnamectl set-hostname.",
    )


class NoOwnAddress(Finding):
    code = "clusters.no_own_address"
    detail = Text(
        "호스트 '{host}'에서 다른 노드와 통신할 IPv4 주소를 찾지 못했습니다.",
        "Host '{host}' has no IPv4 address by which other nodes could reach it.",
    )
    remedy = Text("네트워크 설정을 확인하세요 (ip addr).", "Check its network (`ip addr`).")
