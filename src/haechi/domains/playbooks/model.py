"""What is exported, and why it may not be."""

from dataclasses import dataclass
from typing import Literal

from haechi.core.secrets import Secret
from haechi.errors import Conflict, Text


@dataclass(frozen=True, slots=True)
class Host:
    """A device as Ansible sees it. Passwords and keys are Ansible's own business."""

    device_id: str
    name: str
    host_name: str | None
    address: str | None
    port: int | None
    user: str | None
    role: str
    platform: str | None


@dataclass(frozen=True, slots=True)
class HostGroup:
    """A group of the inventory, or the workers or control planes of a cluster."""

    name: str
    device_ids: list[str]


@dataclass(frozen=True, slots=True)
class PackageToPlay:
    """`image` is pinned by digest and named by the site registry."""

    name: str
    version: str
    image: str
    environment: dict[str, str]
    cpu: float | None
    memory_bytes: int | None
    gpu: bool
    camera: Literal["none", "one", "many"]
    """Given when the playbook runs: nobody hands cameras out there."""
    internet: bool
    """Whether it asks for it; which network it gets is chosen when the playbook runs."""


@dataclass(frozen=True, slots=True)
class RegistryToPlay:
    """How a host reaches the site registry; its login comes when the playbook runs."""

    name: str
    host: str
    ca_pem: str


@dataclass(frozen=True, slots=True)
class RegistryLogin:
    """Good for pulling only; shown once."""

    user: str
    password: Secret


class NotPlayable(Conflict):
    code = "playbooks.not_built"
    detail = Text(
        "패키지 버전 {version}은(는) 아직 어떤 플랫폼으로도 빌드되지 않았습니다.",
        "The package version {version} is not built for any platform yet.",
    )
    remedy = Text(
        "먼저 빌드하거나 장치 하나에 배포한 뒤 다시 내보내세요.",
        "Build it, or deploy it to one device first, and export again.",
    )


class NeedsPrivileges(Conflict):
    code = "playbooks.needs_privileges"
    detail = Text(
        "패키지 {package} {version}은(는) 특권(privileged)을 요청하지만, 플레이북은 특권을 주지 "
        "않습니다.",
        "The package {package} {version} asks for privileges (`privileged`), which playbooks do "
        "not give.",
    )
    remedy = Text(
        "haechi로 배포하세요. 관리자가 --allow privileged로 허용할 수 있습니다. 특권이 필요 없다면 "
        "haechi.toml에서 빼고 다시 빌드하세요.",
        "Deploy it by haechi, where an administrator may allow it (--allow privileged). If it can "
        "do without, take it out of haechi.toml and build again.",
    )


class TwoPlatforms(Conflict):
    code = "playbooks.two_platforms"
    detail = Text(
        "그룹의 장치들은 플랫폼이 서로 다릅니다 ({platforms}).",
        "The group's devices are of several platforms ({platforms}).",
    )
    remedy = Text(
        "플랫폼마다 그룹을 나누어 내보내세요.", "Make a group for each platform and export each."
    )
