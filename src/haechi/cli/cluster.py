"""`haechi cluster`: Kubernetes on devices."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from haechi.cli import cluster_upkeep
from haechi.cli.client import EXIT_UPSTREAM, Api, pass_api
from haechi.cli.cluster_consent import consent_of, consent_options
from haechi.cli.cluster_upkeep import HOSTS, tell_finding
from haechi.cli.lookup import given, id_of
from haechi.cli.waiting import follow, no_wait_option

COLUMNS: Final = ["id", "name", "state", "kubernetes_version", "nodes", "formed_at", "message"]
MEMBERS: Final = ["node_name", "role", "state", "address", "device_id", "message"]
STEPS: Final = ["name", "title", "hosts"]
PROOF: Final = ["node_name", "state", "before_at", "after_at", "differences"]


@click.group()
def cluster() -> None:
    """Form, change and delete Kubernetes clusters of devices."""


for _command in cluster_upkeep.COMMANDS:
    cluster.add_command(_command)


def _forming(*, further: bool = False) -> Callable[[Any], Any]:
    """The options that check, plan and form share. `further`: the cluster may be there already."""
    options: list[Any] = [
        click.option(
            "--control-plane",
            "control_planes",
            multiple=True,
            required=not further,
            help="Device (name or id); one, or an odd number of three or more.",
        ),
        click.option("--worker", "workers", multiple=True, help="Device (name or id); repeatable."),
        click.option("--kubernetes", "kubernetes_version", help="1.36, or exactly 1.36.3."),
        click.option("--pod-cidr", help="[default: 10.244.0.0/16]"),
        click.option("--service-cidr", help="[default: 10.96.0.0/12]"),
        click.option(
            "--source",
            type=click.Choice(["bundle", "distribution"]),
            help="Offline bundle, or the distribution's packages. [default: bundle]",
        ),
        click.option(
            "--run-ai-on-control-plane", is_flag=True, help="Control planes take AIs too."
        ),
        consent_options,
        click.option(
            "--profile",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="JSON: kubelet, kube_proxy, containerd, ignore_preflight.",
        ),
    ]

    def decorated(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorated


@cluster.command("check")
@click.option(
    "--cluster", "cluster_ref", metavar="CLUSTER", help="The cluster that the hosts are to join."
)
@_forming(further=True)
@pass_api
def check_cluster(api: Api, /, cluster_ref: str | None, **options: Any) -> None:
    """Look at hosts and tell everything that hinders; nothing is changed. With --cluster they are
    workers, or control planes, that are to join, replace a node of it or take it over.
    """
    if cluster_ref is None:
        checked = api.post("/clusters/check", _body(api, options))
    else:
        body = _further(api, options)
        checked = api.post(f"/clusters/{_id(api, cluster_ref)}/nodes/check", body)
    if api.json_output:
        api.show(checked)
    else:
        for finding in checked["findings"]:
            tell_finding(api, finding)
    if not checked["fit"]:
        raise click.exceptions.Exit(EXIT_UPSTREAM)
    api.say("막는 문제가 없습니다.", "Nothing hinders.")


@cluster.command("plan")
@click.argument("name")
@_forming()
@pass_api
def plan_cluster(api: Api, /, name: str, **options: Any) -> None:
    """Show what forming would do, step by step."""
    _show_plan(api, api.post("/clusters/plan", {"name": name, **_body(api, options)}))


@cluster.command("form")
@click.argument("name")
@_forming()
@click.option("--plan", "only_plan", is_flag=True, help="Show the steps; do nothing.")
@no_wait_option
@pass_api
def form_cluster(api: Api, /, name: str, only_plan: bool, no_wait: bool, **options: Any) -> None:
    """Form the cluster NAME of devices, over SSH."""
    body = {"name": name, **_body(api, options)}
    if only_plan:
        _show_plan(api, api.post("/clusters/plan", body))
        return
    follow(api, api.post("/clusters", body), no_wait=no_wait, **HOSTS)


@cluster.command("list")
@click.option("--all", "include_gone", is_flag=True, help="Deleted and failed ones too.")
@pass_api
def list_clusters(api: Api, include_gone: bool) -> None:
    """List clusters, newest first."""
    found = api.get("/clusters", include_gone="true" if include_gone else None, limit=1000)
    if not api.json_output:
        for one in found["items"]:
            ready = [member for member in one["members"] if member["state"] == "ready"]
            one["nodes"] = len(ready)
    api.show(found, COLUMNS)


@cluster.command("show")
@click.argument("cluster_ref", metavar="CLUSTER")
@pass_api
def show_cluster(api: Api, cluster_ref: str) -> None:
    """Show one cluster and its members."""
    found = api.get(f"/clusters/{_id(api, cluster_ref)}")
    if api.json_output:
        api.show(found)
        return
    members = found.pop("members")
    api.show(found)
    api.show(members, MEMBERS)


@cluster.command("rename")
@click.argument("cluster_ref", metavar="CLUSTER")
@click.argument("name")
@pass_api
def edit_cluster(api: Api, cluster_ref: str, name: str) -> None:
    """Give a cluster another name."""
    api.show(api.edit(f"/clusters/{_id(api, cluster_ref)}", {"name": name}))


@cluster.command("add")
@click.argument("cluster_ref", metavar="CLUSTER")
@click.argument("devices", nargs=-1, required=True)
@click.option("--control-plane", is_flag=True, help="As control planes; else as workers.")
@consent_options
@no_wait_option
@pass_api
def add_node(
    api: Api,
    /,
    cluster_ref: str,
    devices: tuple[str, ...],
    control_plane: bool,
    no_wait: bool,
    **consent: Any,
) -> None:
    """Let DEVICES (names or ids) join."""
    body = {
        "device_ids": [id_of(api, "/devices", one) for one in devices],
        "role": "control_plane" if control_plane else "worker",
        **consent_of(consent),
    }
    started = api.post(f"/clusters/{_id(api, cluster_ref)}/nodes", body)
    follow(api, started, no_wait=no_wait, **HOSTS)


@cluster.command("remove")
@click.argument("cluster_ref", metavar="CLUSTER")
@click.argument("device")
@no_wait_option
@pass_api
def remove_node(api: Api, cluster_ref: str, device: str, no_wait: bool) -> None:
    """Take DEVICE (name or id) out: drain it, delete the node, clean the host."""
    device_id = id_of(api, "/devices", device)
    started = api.delete(f"/clusters/{_id(api, cluster_ref)}/nodes/{device_id}")
    follow(api, started, no_wait=no_wait, **HOSTS)


@cluster.command("delete")
@click.argument("cluster_ref", metavar="CLUSTER")
@no_wait_option
@pass_api
def delete_cluster(api: Api, cluster_ref: str, no_wait: bool) -> None:
    """Delete a cluster and leave its hosts as they were."""
    follow(api, api.delete(f"/clusters/{_id(api, cluster_ref)}"), no_wait=no_wait, **HOSTS)


@cluster.command("proof")
@click.argument("cluster_ref", metavar="CLUSTER")
@pass_api
def show_proof(api: Api, cluster_ref: str) -> None:
    """Show each host before forming against after deleting."""
    path = f"/clusters/{_id(api, cluster_ref)}"
    found = api.get(f"{path}/proof")
    if not api.json_output:
        members = {one["device_id"]: one for one in api.get(path)["members"]}
        for one in found["hosts"]:
            one["node_name"] = members[one["device_id"]]["node_name"]
    api.show(found if api.json_output else found["hosts"], PROOF)


@cluster.command("kubeconfig")
@click.argument("cluster_ref", metavar="CLUSTER")
@pass_api
def show_kubeconfig(api: Api, cluster_ref: str) -> None:
    """Print the administrator's kubeconfig; it may do anything in the cluster."""
    text = api.request("GET", f"/clusters/{_id(api, cluster_ref)}/kubeconfig").text
    if api.json_output:
        api.show({"kubeconfig": text})
    else:
        click.echo(text, nl=False)


def _id(api: Api, ref: str) -> str:
    """The one of that name which is not gone; an id else."""
    return id_of(api, "/clusters", ref)


def _body(api: Api, options: dict[str, Any]) -> dict[str, Any]:
    masters, workers = options.pop("control_planes"), options.pop("workers")
    if not masters:
        raise click.UsageError("Missing option '--control-plane'.")
    profile: Path | None = options.pop("profile")
    consent = consent_of(options)
    wanted = {**given(options), **consent}
    if profile is not None:
        try:
            wanted["profile"] = json.loads(profile.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise click.BadParameter(f"{profile}: {error}", param_hint="--profile") from error
    return {
        "control_plane_ids": [id_of(api, "/devices", one) for one in masters],
        "worker_ids": [id_of(api, "/devices", one) for one in workers],
        "options": wanted,
    }


def _further(api: Api, options: dict[str, Any]) -> dict[str, Any]:
    """Of hosts for a cluster that is there: all else is as it was formed."""
    masters, workers = options.pop("control_planes"), options.pop("workers")
    consent = consent_of(options)
    if bool(masters) == bool(workers):
        raise click.UsageError("With --cluster: either --worker or --control-plane.")
    for name, value in options.items():
        if value:
            option = name.removesuffix("_version").replace("_", "-")
            raise click.UsageError(f"--{option} is the cluster's own; not with --cluster.")
    return {
        "device_ids": [id_of(api, "/devices", one) for one in masters or workers],
        "role": "control_plane" if masters else "worker",
        **consent,
    }


def _show_plan(api: Api, plan: dict[str, Any]) -> None:
    if api.json_output:
        api.show(plan)
        return
    steps = plan.pop("steps")
    members = plan.pop("members")
    api.show(plan)
    api.show(members, ["node_name", "role", "device_name", "address"])
    api.show(steps, STEPS)
