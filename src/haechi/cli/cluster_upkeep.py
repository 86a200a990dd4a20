"""The commands of `haechi cluster` that look after one: health, backups, certificates, repair."""

from pathlib import Path
from typing import Any, Final

import click

from haechi.cli.client import EXIT_UPSTREAM, Api, pass_api
from haechi.cli.cluster_consent import consent_of, consent_options
from haechi.cli.lookup import id_of
from haechi.cli.waiting import follow, no_wait_option

NODES: Final = [
    "node_name",
    "role",
    "presence",
    "reason_text",
    "ready",
    "address",
    "found_address",
    "since",
    "remedy",
]
BACKUPS: Final = [
    "id",
    "created_at",
    "occasion",
    "size_bytes",
    "kubernetes_version",
    "revision",
    "created_by",
]
CERTIFICATES: Final = ["node_name", "name", "ends_at", "authority"]
HOSTS: Final[dict[str, Any]] = {
    "rows": "hosts",
    "columns": ["name", "role", "stage", "error.code"],
}
"""How the outcome of an operation on hosts is shown."""
_cluster = click.argument("cluster_ref", metavar="CLUSTER")


@click.command("health")
@_cluster
@pass_api
def get_cluster_health(api: Api, cluster_ref: str) -> None:
    """Show how a cluster is right now, and why; exit code 5 unless all is well."""
    found = api.get(f"{_path(api, cluster_ref)}/health")
    nodes = found["nodes"]
    if api.json_output:
        api.show(found)
    else:
        api.show(nodes, NODES)
        for one in found["findings"]:
            tell_finding(api, one)
        for one in found["warnings"]:
            api.say(f"! {one['text']}", f"! {one['text']}")
        if found["api"] != "ok":
            api.say(
                f"Kubernetes API: {found['api']} {found['api_error']}",
                f"Kubernetes API: {found['api']} {found['api_error']}",
            )
    lost = any(one["presence"] in {"silent", "dead"} for one in nodes)
    if found["api"] == "away" or lost or found["findings"]:
        raise click.exceptions.Exit(EXIT_UPSTREAM)


@click.command("backup")
@_cluster
@no_wait_option
@pass_api
def back_up_cluster(api: Api, cluster_ref: str, no_wait: bool) -> None:
    """Back a cluster up: etcd, certificates, configuration; kept encrypted on the server."""
    follow(api, api.post(f"{_path(api, cluster_ref)}/backups"), no_wait=no_wait, **HOSTS)


@click.command("backups")
@_cluster
@pass_api
def list_backups(api: Api, cluster_ref: str) -> None:
    """List a cluster's backups, newest first."""
    api.show(api.get_all(f"{_path(api, cluster_ref)}/backups"), BACKUPS)


@click.command("download-backup")
@_cluster
@click.argument("backup_id", metavar="BACKUP")
@click.argument("target", type=click.Path(dir_okay=False, path_type=Path))
@pass_api
def download_backup(api: Api, cluster_ref: str, backup_id: str, target: Path) -> None:
    """Write a backup to TARGET (tar.gz) in clear: it holds the cluster's private keys."""
    path = f"{_path(api, cluster_ref)}/backups/{backup_id}/content"
    target.touch(mode=0o600)
    with api.stream("GET", path) as response, target.open("wb") as file:
        for piece in response.iter_bytes():
            file.write(piece)
    api.say(f"{target}에 저장했습니다.", f"Written to {target}.")


@click.command("delete-backup")
@_cluster
@click.argument("backup_id", metavar="BACKUP")
@pass_api
def delete_backup(api: Api, cluster_ref: str, backup_id: str) -> None:
    """Delete one backup."""
    api.delete(f"{_path(api, cluster_ref)}/backups/{backup_id}")
    api.say("삭제했습니다.", "Deleted.")


@click.command("restore")
@_cluster
@click.option("--backup", "backup_id", help="Which one. [default: the newest]")
@click.option("--onto", metavar="DEVICE", help="All control planes are lost: the new one.")
@click.option(
    "--leave-out-away",
    is_flag=True,
    help="Control planes that cannot be reached are lost for good: go on without them.",
)
@consent_options
@no_wait_option
@pass_api
def restore_cluster(
    api: Api,
    /,
    cluster_ref: str,
    backup_id: str | None,
    onto: str | None,
    leave_out_away: bool,
    no_wait: bool,
    **options: Any,
) -> None:
    """Bring all control planes back to a backup, or another host in their place."""
    consent = consent_of(options)
    if onto is None and any(consent.values()):
        raise click.UsageError("--accept, --trust-hosts and --clean-leftovers are of --onto.")
    body: dict[str, Any] = {"leave_out_away": leave_out_away, **consent}
    if backup_id:
        body["backup_id"] = backup_id
    if onto:
        body["onto_device_id"] = id_of(api, "/devices", onto)
    follow(api, api.post(f"{_path(api, cluster_ref)}/restore", body), no_wait=no_wait, **HOSTS)


@click.command("certificates")
@_cluster
@pass_api
def list_certificates(api: Api, cluster_ref: str) -> None:
    """Show when the certificates of all nodes end, read on the hosts now."""
    found = api.get(f"{_path(api, cluster_ref)}/certificates")
    if api.json_output:
        api.show(found)
        return
    api.show(found["certificates"], CERTIFICATES)
    if found["not_reached"]:
        api.show(found["not_reached"], ["device_id", "detail", "remedy"])


@click.command("renew")
@_cluster
@click.option("--due", is_flag=True, help="Only those that end soon.")
@no_wait_option
@pass_api
def renew_certificates(api: Api, cluster_ref: str, due: bool, no_wait: bool) -> None:
    """Renew certificates, one control plane after the other."""
    started = api.post(f"{_path(api, cluster_ref)}/certificates/renew", {"every": not due})
    follow(api, started, no_wait=no_wait, **HOSTS)


@click.command("readdress")
@_cluster
@click.argument("device", required=False)
@click.option("--address", help="The new one. [default: looked for by the host key]")
@click.option(
    "--control-planes",
    is_flag=True,
    help="All of them, where so many have moved that etcd has no majority; in place of DEVICE.",
)
@click.option(
    "--leave-out-away",
    is_flag=True,
    help="Control planes that cannot be reached are lost for good: go on without them.",
)
@no_wait_option
@pass_api
def readdress_node(
    api: Api,
    cluster_ref: str,
    device: str | None,
    address: str | None,
    control_planes: bool,
    leave_out_away: bool,
    no_wait: bool,
) -> None:
    """Take the new address of DEVICE up. Workers are led home without this."""
    if control_planes == (device is not None):
        raise click.UsageError("Name a DEVICE, or say --control-planes.")
    if control_planes and address:
        raise click.UsageError("--address is of one DEVICE; `haechi device edit` takes it of each.")
    if leave_out_away and not control_planes:
        raise click.UsageError("--leave-out-away is of --control-planes.")
    body: dict[str, Any] = {"address": address} if address else {}
    if device is None:
        place, body = "control-planes", {"leave_out_away": leave_out_away}
    else:
        place = f"nodes/{id_of(api, '/devices', device)}"
    started = api.post(f"{_path(api, cluster_ref)}/{place}/readdress", body)
    follow(api, started, no_wait=no_wait, **HOSTS)


@click.command("readdress-server")
@no_wait_option
@pass_api
def readdress_server(api: Api, no_wait: bool) -> None:
    """Tell every node this server's new address, once its settings have it."""
    follow(api, api.post("/server/readdress"), no_wait=no_wait, **HOSTS)


@click.command("replace")
@_cluster
@click.argument("old")
@click.argument("new")
@click.option("--force", is_flag=True, help="Also where OLD is not dead.")
@consent_options
@no_wait_option
@pass_api
def replace_node(
    api: Api, /, cluster_ref: str, old: str, new: str, force: bool, no_wait: bool, **consent: Any
) -> None:
    """Let the device NEW take the place of OLD, with its AIs and cameras."""
    body = {"device_id": id_of(api, "/devices", new), "force": force, **consent_of(consent)}
    old_id = id_of(api, "/devices", old)
    started = api.post(f"{_path(api, cluster_ref)}/nodes/{old_id}/replace", body)
    follow(api, started, no_wait=no_wait, **HOSTS)


@click.command("update-agents")
@click.argument("cluster_ref", metavar="CLUSTER")
@no_wait_option
@pass_api
def update_agents(api: Api, cluster_ref: str, no_wait: bool) -> None:
    """Replace the agents of all nodes, one after the other."""
    started = api.post(f"{_path(api, cluster_ref)}/agents/update")
    follow(api, started, no_wait=no_wait, **HOSTS)


COMMANDS: Final = [
    get_cluster_health,
    back_up_cluster,
    list_backups,
    download_backup,
    delete_backup,
    restore_cluster,
    list_certificates,
    renew_certificates,
    readdress_node,
    readdress_server,
    replace_node,
    update_agents,
]


def tell_finding(api: Api, finding: dict[str, Any]) -> None:
    """Not in a table: on a narrow terminal that breaks keys and commands which one compares and
    copies.
    """
    word = " (허용됨)" if api.language == "ko" else " (accepted)"
    accepted = word if finding["accepted"] else ""
    color = "red" if finding["level"] == "error" else "yellow"
    head = [finding["host"], finding["level"], f"{finding['name']}{accepted}"]
    click.secho("  ".join(word for word in head if word), fg=color)
    click.echo(f"  {finding['detail']}")
    if finding["remedy"]:
        click.echo(f"  → {finding['remedy']}")


def _path(api: Api, ref: str) -> str:
    return f"/clusters/{id_of(api, '/clusters', ref)}"
