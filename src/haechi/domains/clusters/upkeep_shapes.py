"""What the REST face of looking after clusters takes and gives."""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field

from haechi.core.operations.model import error_text
from haechi.domains.clusters.certificates import NodeCertificate
from haechi.domains.clusters.reasons import REMEDIES, TEXTS, WARNINGS, Advice, Reason, warnings
from haechi.domains.clusters.shapes import ConsentIn, FindingOut
from haechi.domains.clusters.upkeep import ClusterHealth
from haechi.domains.clusters.watched import NodeState
from haechi.errors import AppError, Language
from haechi.rest import In, Out, UtcTime

Id = Annotated[str, Field(min_length=1, max_length=128)]


class RenewIn(In):
    every: bool = True
    """All of them; otherwise only those that end soon."""


class RestoreIn(ConsentIn):
    """`accept` and `clean_leftovers` are of the host of `onto_device_id`."""

    backup_id: Id | None = None
    """Absent: the newest."""
    onto_device_id: Id | None = None
    """Where all control planes are lost: the device that becomes the new one."""
    leave_out_away: bool = False
    """Control planes that cannot be reached are lost for good: they leave the cluster, instead of
    keeping it from being restored."""


class ReaddressIn(In):
    address: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    """Absent: it is looked for by its host key."""


class ReaddressAllIn(In):
    leave_out_away: bool = False
    """Control planes that cannot be reached are lost for good: they leave the cluster."""


class ReplaceIn(ConsentIn):
    device_id: Id
    """The new device."""
    force: bool = False
    """Also where the old one is not dead."""


class SavedNodeOut(Out):
    node_name: str
    address: str


class BackupOut(Out):
    id: str
    cluster_id: str
    occasion: Literal["asked", "daily"]
    size_bytes: int
    sha256: str
    """Of the encrypted file."""
    kubernetes_version: str
    revision: int
    """etcd's, at that moment."""
    total_keys: int
    device_id: str
    """The control plane that it was taken from."""
    control_planes: list[SavedNodeOut]
    created_by: str
    created_at: UtcTime


class NodeHealthOut(Out):
    device_id: str
    node_name: str
    role: Literal["control_plane", "worker"]
    address: str
    found_address: str | None
    """Where it was found, if that is not `address`."""
    presence: Literal["new", "ok", "silent", "dead"]
    reason: str
    reason_text: str
    remedy: str
    detail: str
    """What the node itself said."""
    since: UtcTime | None
    ready: bool | None
    """As Kubernetes sees it."""
    kubelet_version: str
    agent_connected: bool

    @classmethod
    def of(cls, node: NodeState, moved: str | None, language: Language) -> Self:
        reason: Reason = node.reason if moved is None else "address_changed"
        remedy = REMEDIES.get(reason)
        return cls(
            device_id=node.device_id,
            node_name=node.node_name,
            role="control_plane" if node.role == "control_plane" else "worker",
            address=node.address,
            found_address=moved,
            presence=node.presence,
            reason=reason,
            reason_text=TEXTS[reason].render(language, {}),
            remedy=remedy.render(language, {}) if remedy else "",
            detail=node.detail,
            since=node.since,
            ready=node.ready,
            kubelet_version=node.kubelet_version,
            agent_connected=node.agent_connected,
        )


class WarningOut(Out):
    name: Advice
    text: str


class HealthOut(Out):
    cluster_id: str
    api: Literal["unknown", "ok", "away"]
    api_since: UtcTime | None
    api_error: str
    nodes: list[NodeHealthOut]
    newest_backup: BackupOut | None
    findings: list[FindingOut]
    """Services, the pods' network or names that do not work, by the pods that make them."""
    warnings: list[WarningOut]
    """What speaks against leaving it as it is."""

    @classmethod
    def of(cls, health: ClusterHealth, language: Language) -> Self:
        newest = health.newest_backup
        return cls(
            cluster_id=health.cluster.id,
            api=health.api.state,
            api_since=health.api.since,
            api_error=health.api.error,
            nodes=[
                NodeHealthOut.of(one, health.moved.get(one.device_id), language)
                for one in health.nodes
            ],
            newest_backup=BackupOut.model_validate(newest) if newest else None,
            findings=[FindingOut.of(one, language) for one in health.findings],
            warnings=[
                WarningOut(name=one, text=WARNINGS[one].render(language, {}))
                for one in warnings(
                    sum(node.role == "control_plane" for node in health.nodes),
                    backed_up=newest is not None,
                )
            ],
        )


class CertificateOut(Out):
    device_id: str
    node_name: str
    name: str
    """As kubeadm calls it; `kubelet`: by which the kubelet shows itself to the API."""
    ends_at: UtcTime
    authority: bool


class NotLookedAtOut(Out):
    device_id: str
    code: str
    detail: str
    remedy: str


class CertificatesOut(Out):
    certificates: list[CertificateOut]
    not_reached: list[NotLookedAtOut]

    @classmethod
    def of(
        cls,
        found: Sequence[NodeCertificate],
        failures: dict[str, AppError],
        language: Language,
    ) -> Self:
        said = []
        for device_id, error in sorted(failures.items()):
            text = error_text({"code": error.code, "data": error.data}, language) or {}
            said.append(
                NotLookedAtOut(
                    device_id=device_id,
                    code=error.code,
                    detail=text.get("detail", error.code),
                    remedy=text.get("remedy", ""),
                )
            )
        return cls(
            certificates=[CertificateOut.model_validate(one) for one in found], not_reached=said
        )
