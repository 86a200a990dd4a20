"""What may go wrong when a formed cluster is looked after."""

from haechi.errors import Conflict, Text, Upstream


class CertificatesNotRenewed(Upstream):
    code = "clusters.certificates_not_renewed"
    detail = Text(
        "갱신했지만 여전히 곧 만료되는 인증서가 있습니다: {names}",
        "These certificates end soon although they were renewed: {names}",
    )
    remedy = Text(
        "호스트의 시계가 맞는지 확인한 뒤 다시 시도하세요.",
        "Check the clock of the host, then try again.",
    )


class AddressUnknown(Conflict):
    code = "clusters.address_unknown"
    detail = Text(
        "노드 {host}의 새 주소를 찾지 못했습니다. 살펴본 주소: {tried}",
        "No new address of node {host} was found. Looked at: {tried}",
    )
    remedy = Text(
        "장치가 켜져 있고 같은 네트워크에 있는지 확인하거나 --address로 새 주소를 알려 주세요.",
        "Check that the device is on and in the site's network, or say the address: --address.",
    )


class ControlPlanesMoved(Conflict):
    """`hosts` names those that have other addresses or are dead."""

    code = "clusters.control_planes_moved"
    detail = Text(
        "주소가 바뀌었거나 죽은 제어 노드가 많아 etcd에 과반수가 없습니다: {hosts}",
        "So many control planes have other addresses or are dead that etcd has no majority: "
        "{hosts}",
    )
    remedy = Text(
        "함께 옮기세요: haechi cluster readdress CLUSTER --control-planes. 되살릴 수 없는 것이 "
        "있으면 --leave-out-away를 붙이세요.",
        "Take them up together: haechi cluster readdress CLUSTER --control-planes. Where one is "
        "lost for good, with --leave-out-away.",
    )


class SameDevice(Conflict):
    code = "clusters.same_device"
    detail = Text(
        "장치 {device_id}을(를) 자기 자신으로 교체할 수 없습니다.",
        "Device {device_id} cannot be replaced by itself.",
    )
    remedy = Text("새 장치를 지정하세요.", "Name the new device.")


class StillLives(Conflict):
    code = "clusters.still_lives"
    detail = Text(
        "노드 {host}은(는) 아직 동작하고 있습니다 ({presence}).",
        "Node {host} is still alive ({presence}).",
    )
    remedy = Text(
        "그래도 교체하려면 --force를 지정하세요. 작업은 새 장치가 준비된 뒤에 옮겨집니다.",
        "To replace it all the same, say --force; its work moves once the new device is ready.",
    )
