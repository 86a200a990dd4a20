"""What the REST face of clusters takes and gives."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field

from haechi.core.operations.model import error_text
from haechi.domains.clusters.book import ClusterView
from haechi.domains.clusters.checking import Checked
from haechi.domains.clusters.consent import Consent
from haechi.domains.clusters.model import (
    Cluster,
    ClusterPlan,
    FormOptions,
    HostProfile,
    HostProof,
    Member,
)
from haechi.domains.clusters.ports import HostFinding
from haechi.errors import Language
from haechi.rest import AcceptedOut, In, Out, UtcTime

Id = Annotated[str, Field(min_length=1, max_length=128)]
ClusterName = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,128}$")]
Word = Annotated[str, Field(min_length=1, max_length=128)]
Cidr = Annotated[str, Field(min_length=9, max_length=18)]
RoleName = Literal["control_plane", "worker"]


class HostProfileIn(In):
    """What hosts of this cluster need beyond the defaults."""

    kubelet: dict[str, Any] = Field(default_factory=dict, max_length=200)
    """Merged over the KubeletConfiguration."""
    kube_proxy: dict[str, Any] = Field(default_factory=dict, max_length=200)
    """Merged over the KubeProxyConfiguration."""
    containerd: dict[str, Any] = Field(default_factory=dict, max_length=200)
    """Merged over containerd's configuration."""
    ignore_preflight: list[Word] = Field(default_factory=list, max_length=50)
    """kubeadm's own checks whose errors are taken as warnings."""


class ConsentIn(In):
    """What the caller allows on the hosts that this operation takes."""

    accept: list[Word] = Field(default_factory=list, max_length=50)
    """Names of warnings that you have read and accept. `host_key_unknown` pins the keys that hosts
    show at their first contact.
    """
    clean_leftovers: bool = False
    """Remove what an earlier cluster left on the hosts."""

    def consent(self) -> Consent:
        return Consent([*self.accept], self.clean_leftovers)


class FormOptionsIn(ConsentIn):
    pod_cidr: Cidr = "10.244.0.0/16"
    service_cidr: Cidr = "10.96.0.0/12"
    kubernetes_version: Annotated[str, Field(pattern=r"^1\.\d{1,3}(\.\d{1,3})?$")] | None = None
    """`1.36`, or exactly `1.36.3`; absent: the newest bundle that is there."""
    source: Literal["bundle", "distribution"] = "bundle"
    """From the offline bundle, or from the distribution's packages over the internet."""
    run_ai_on_control_plane: bool = False
    """Control planes take AIs too."""
    profile: HostProfileIn = HostProfileIn()

    def options(self) -> FormOptions:
        values = self.model_dump()
        return FormOptions(**{**values, "profile": HostProfile(**values["profile"])})


class CheckIn(In):
    control_plane_ids: list[Id] = Field(min_length=1, max_length=7)
    """Devices; one, or an odd number of three or more."""
    worker_ids: list[Id] = Field(default_factory=list, max_length=500)
    options: FormOptionsIn = FormOptionsIn()


class FormIn(CheckIn):
    name: ClusterName


class EditIn(In):
    name: ClusterName


class AddIn(ConsentIn):
    device_ids: list[Id] = Field(min_length=1, max_length=500)
    role: RoleName = "worker"


class FormedOut(AcceptedOut):
    cluster_id: str


class FindingOut(Out):
    device_id: str
    host: str
    name: str
    """What `accept` takes."""
    level: Literal["error", "warning"]
    accepted: bool
    code: str
    detail: str
    remedy: str
    data: dict[str, Any]

    @classmethod
    def of(cls, finding: HostFinding, language: Language, *, accepted: bool = False) -> Self:
        said = error_text({"code": finding.code, "data": finding.data}, language) or {}
        return cls(
            device_id=finding.device_id,
            host=finding.host,
            name=finding.name,
            level=finding.level,
            accepted=accepted,
            code=finding.code,
            detail=said.get("detail", finding.code),
            remedy=said.get("remedy", ""),
            data=finding.data,
        )


class CheckedHostOut(Out):
    device_id: str
    host: str
    role: RoleName
    address: str
    platform: str


class CheckOut(Out):
    fit: bool
    """Nothing hinders forming."""
    hosts: list[CheckedHostOut]
    """Those that could be reached."""
    findings: list[FindingOut]

    @classmethod
    def of(cls, checked: Checked, language: Language) -> Self:
        findings = [
            FindingOut.of(one, language, accepted=one in checked.accepted)
            for one in checked.findings
        ]
        hosts = [CheckedHostOut.model_validate(one) for one in checked.reports]
        return cls(fit=not checked.hindering, hosts=hosts, findings=findings)


class PlannedMemberOut(Out):
    device_id: str
    device_name: str
    role: RoleName
    node_name: str
    address: str


class PlannedStepOut(Out):
    name: str
    title: str
    hosts: list[str]
    """Node names; empty: on none in particular."""


class PlanOut(Out):
    name: str
    kubernetes_version: str
    api_name: str
    options: dict[str, Any]
    members: list[PlannedMemberOut]
    steps: list[PlannedStepOut]

    @classmethod
    def of(cls, plan: ClusterPlan, language: Language) -> Self:
        return cls(
            name=plan.name,
            kubernetes_version=plan.kubernetes_version,
            api_name=plan.api_name,
            options=plan.options.as_json(),
            members=[PlannedMemberOut.model_validate(one) for one in plan.members],
            steps=[
                PlannedStepOut(
                    name=one.name,
                    title=one.title_ko if language == "ko" else one.title_en,
                    hosts=one.hosts,
                )
                for one in plan.steps
            ],
        )


class MemberOut(Out):
    device_id: str
    node_name: str
    role: RoleName
    address: str
    state: Literal["planned", "joining", "ready", "leaving", "cleaning", "gone", "failed"]
    """`cleaning`: no longer a node, but away; cleaned when it is seen again."""
    message: str
    observed: dict[str, Any]
    """What was seen of it last."""
    joined_at: UtcTime | None
    left_at: UtcTime | None

    @classmethod
    def of(cls, member: Member) -> Self:
        own = {name: getattr(member, name) for name in cls.model_fields if name != "state"}
        return cls(**own, state=member.state.value)


class ClusterOut(Out):
    id: str
    name: str
    state: Literal["forming", "ready", "failed", "deleting", "deleted"]
    kubernetes_version: str
    api_name: str
    options: dict[str, Any]
    message: str
    members: list[MemberOut]
    """All that ever were, control planes first."""
    operation_id: str | None
    """The last one about it."""
    active_operation_id: str | None
    """The one at work on it now."""
    created_by: str
    created_at: UtcTime
    formed_at: UtcTime | None
    ended_at: UtcTime | None

    @classmethod
    def of(cls, view: ClusterView) -> Self:
        cluster = view.cluster
        own = {
            name: getattr(cluster, name)
            for name in cls.model_fields
            if name in Cluster.__slots__ and name not in {"state", "options"}
        }
        return cls(
            **own,
            state=cluster.state.value,
            options=cluster.options.as_json(),
            api_name=cluster.api_name,
            members=[MemberOut.of(one) for one in view.members],
            active_operation_id=view.active.id if view.active else None,
        )


class HostProofOut(Out):
    device_id: str
    state: Literal["clean", "differs", "pending", "unknown"]
    """`clean`: as before forming. `pending`: not cleaned yet. `unknown`: no record of before."""
    before_at: UtcTime | None
    after_at: UtcTime | None
    differences: list[dict[str, Any]]


class ProofOut(Out):
    clean: bool
    """Every host is as it was before forming."""
    hosts: list[HostProofOut]

    @classmethod
    def of(cls, proofs: list[HostProof]) -> Self:
        return cls(
            clean=all(one.state == "clean" for one in proofs),
            hosts=[HostProofOut.model_validate(one) for one in proofs],
        )
