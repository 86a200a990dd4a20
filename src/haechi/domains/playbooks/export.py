"""The folder that is handed over: playbooks, what they are about, and who is in it."""

import io
import zipfile
from importlib import resources
from typing import Any, Final

import yaml

from haechi.domains.playbooks.inventory import group_name, static_of
from haechi.domains.playbooks.model import HostGroup, PackageToPlay, RegistryToPlay

PLAYBOOKS: Final = ("deploy.yml", "remove.yml", "rollback.yml")
_TASKS: Final = ("mend.yml", "replace.yml", "exchange.yml", "prove.yml")
_INVENTORY_SCRIPT: Final = (
    '#!/bin/sh\n# The site as it is now, asked of the server.\nexec haechi inventory "$@"\n'
)


def files_of(
    package: PackageToPlay,
    registry: RegistryToPlay,
    group: HostGroup,
    inventory: dict[str, Any],
) -> dict[str, bytes]:
    """Path → content. Nothing in it is secret but what the package's environment holds."""
    templates = resources.files(__package__) / "templates"
    files = {
        name: (templates / name).read_bytes()
        for name in (*PLAYBOOKS, "README.md", "haechi.yml", "ansible.cfg")
    }
    files |= {f"tasks/{name}": (templates / name).read_bytes() for name in _TASKS}
    variables = variables_of(package, registry, group)
    files["package.yml"] = (
        b"# Written by haechi: what the playbooks are about.\n"
        + yaml.safe_dump(variables, allow_unicode=True, sort_keys=False).encode()
    )
    files["registry-ca.pem"] = registry.ca_pem.encode()
    files["inventory.yml"] = yaml.safe_dump(static_of(inventory), allow_unicode=True).encode()
    files["inventory.sh"] = _INVENTORY_SCRIPT.encode()
    return files


def variables_of(
    package: PackageToPlay, registry: RegistryToPlay, group: HostGroup
) -> dict[str, Any]:
    return {
        "haechi_hosts": group_name(group.name),
        "haechi_package": package.name,
        "haechi_version": package.version,
        "haechi_image": package.image,
        "haechi_environment": dict(package.environment),
        "haechi_cpu": package.cpu,
        "haechi_memory_bytes": package.memory_bytes,
        "haechi_gpu": package.gpu,
        "haechi_camera": package.camera,
        "haechi_internet": package.internet,
        "haechi_registry": registry.name,
        "haechi_registry_host": registry.host,
    }


def zip_of(files: dict[str, bytes]) -> bytes:
    """Scripts stay executable."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            entry = zipfile.ZipInfo(path)
            mode = 0o755 if path.endswith(".sh") else 0o644
            entry.external_attr = (0o100000 | mode) << 16
            archive.writestr(entry, content)
    return made.getvalue()
