"""Kubernetes objects that every cluster gets: templates of the package, filled in; no download."""

from importlib import resources
from typing import Any, Final, Literal

import yaml

from haechi.domains.clusters.model import API_PROXY_PORT

PullPolicy = Literal["IfNotPresent", "Never"]
FLANNEL_NAMESPACE: Final = "kube-flannel"
FLANNEL_NAME: Final = "kube-flannel-ds"


def template(name: str, values: dict[str, str]) -> list[dict[str, Any]]:
    """The objects of `templates/<name>`, each `@KEY@` replaced."""
    text = (resources.files(__package__) / "templates" / name).read_text(encoding="utf-8")
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    return [one for one in yaml.safe_load_all(text) if one]


def flannel(*, image: str, pod_cidr: str, pull_policy: PullPolicy) -> list[dict[str, Any]]:
    return template(
        "flannel.yaml",
        {
            "FLANNEL_IMAGE": image,
            "POD_CIDR": pod_cidr,
            "PULL_POLICY": pull_policy,
            "API_PORT": str(API_PROXY_PORT),
        },
    )
