"""Kubernetes objects that every cluster gets: templates of the package, filled in; no download."""

from importlib import resources
from typing import Any, Final, Literal

import yaml

from haechi.domains.clusters.model import API_PROXY_PORT

PullPolicy = Literal["IfNotPresent", "Never"]
CNI_FOLDER: Final = "/opt/cni/bin"
FLANNEL_NAMESPACE: Final = "kube-flannel"
FLANNEL_NAME: Final = "kube-flannel-ds"


def template(name: str, values: dict[str, str]) -> list[dict[str, Any]]:
    """The objects of `templates/<name>`, each `@KEY@` replaced."""
    text = (resources.files(__package__) / "templates" / name).read_text(encoding="utf-8")
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    return [one for one in yaml.safe_load_all(text) if one]


def flannel(
    *, image: str, pod_cidr: str, pull_policy: PullPolicy, plugin: str = ""
) -> list[dict[str, Any]]:
    """`plugin`: image of the CNI plugin, where the nodes do not have it as a file already."""
    objects = template(
        "flannel.yaml",
        {
            "FLANNEL_IMAGE": image,
            "POD_CIDR": pod_cidr,
            "PULL_POLICY": pull_policy,
            "API_PORT": str(API_PROXY_PORT),
        },
    )
    if plugin:
        (daemons,) = [one for one in objects if one["kind"] == "DaemonSet"]
        pod = daemons["spec"]["template"]["spec"]
        bring = {
            "name": "install-cni-plugin",
            "image": plugin,
            "imagePullPolicy": pull_policy,
            "command": ["cp", "-f", "/flannel", f"{CNI_FOLDER}/flannel"],
            "volumeMounts": [{"name": "cni-plugin", "mountPath": CNI_FOLDER}],
        }
        pod["initContainers"].insert(0, bring)
        pod["volumes"].append({"name": "cni-plugin", "hostPath": {"path": CNI_FOLDER}})
    return objects
