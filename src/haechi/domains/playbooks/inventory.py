"""Ansible's dynamic inventory of the site: pure, from devices and groups to its JSON.

Format: Ansible documentation, "Developing dynamic inventory", script interface: groups with
`hosts` and `children`, and `_meta.hostvars`.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from haechi.domains.playbooks.model import Host, HostGroup

_NOT_NAME = re.compile(r"[^a-z0-9_]+")
_OWN = {"all", "ungrouped", "_meta"}


def inventory_of(hosts: Sequence[Host], groups: Sequence[HostGroup]) -> dict[str, Any]:
    """Host names are haechi's device ids: names and addresses change, ids do not. Devices
    without an address are left out: Ansible would take the id for one.
    """
    reachable = [host for host in hosts if host.address]
    there = {host.device_id for host in reachable}
    document: dict[str, Any] = {
        "_meta": {"hostvars": {host.device_id: variables_of(host) for host in reachable}}
    }
    named = [HostGroup(f"role_{role}", ids) for role, ids in _by_role(reachable)]
    for group in [*named, *groups]:
        members = [one for one in group.device_ids if one in there]
        entry = document.setdefault(group_name(group.name), {"hosts": []})
        entry["hosts"] = list(dict.fromkeys([*entry["hosts"], *members]))
    document["all"] = {"children": [name for name in document if name not in _OWN]}
    return document


def static_of(document: dict[str, Any]) -> dict[str, Any]:
    """The same site as an inventory file, for a day without the server (Ansible's YAML format)."""
    children = {
        name: {"hosts": dict.fromkeys(entry["hosts"])}
        for name, entry in document.items()
        if name not in _OWN
    }
    return {"all": {"hosts": document["_meta"]["hostvars"], "children": children}}


def variables_of(host: Host) -> dict[str, Any]:
    """Without passwords and keys: Ansible has its own ways to keep those."""
    known = {
        "ansible_host": host.address,
        "ansible_port": host.port,
        "ansible_user": host.user,
        "haechi_device_id": host.device_id,
        "haechi_device_name": host.name,
        "haechi_host_name": host.host_name,
        "haechi_role": host.role,
        "haechi_platform": host.platform,
    }
    return {name: value for name, value in known.items() if value is not None}


def group_name(name: str) -> str:
    """As Ansible takes it: letters, digits and `_`, no digit first. Korean letters become their
    code points, so that two names never become one.
    """
    plain = "".join(c if c.isascii() else f"_u{ord(c):x}" for c in name.lower())
    fit = _NOT_NAME.sub("_", plain).strip("_") or "group"
    return f"g_{fit}" if fit[0].isdigit() or fit in _OWN else fit


def _by_role(hosts: Iterable[Host]) -> list[tuple[str, list[str]]]:
    roles: dict[str, list[str]] = {}
    for host in hosts:
        roles.setdefault(host.role, []).append(host.device_id)
    return sorted(roles.items())
