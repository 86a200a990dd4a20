"""REST face of looking after clusters: how they are, backups, certificates, addresses, repair."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response
from fastapi.responses import StreamingResponse

from haechi.core.access import Role, requires
from haechi.domains.clusters.upkeep import Upkeep
from haechi.domains.clusters.upkeep_shapes import (
    BackupOut,
    CertificatesOut,
    HealthOut,
    ReaddressAllIn,
    ReaddressIn,
    RenewIn,
    ReplaceIn,
    RestoreIn,
)
from haechi.rest import AcceptedOut, Caller, Lang, PageOut, PageQuery, accepted


def router(upkeep: Upkeep) -> APIRouter:
    api = APIRouter(tags=["clusters"])
    _health(api, upkeep)
    _backups(api, upkeep)
    _repair(api, upkeep)
    return api


def _health(api: APIRouter, upkeep: Upkeep) -> None:
    @api.get("/clusters/{cluster_id}/health")
    @requires(Role.VIEWER)
    async def get_cluster_health(cluster_id: str, lang: Lang) -> HealthOut:
        """How its API and each node are right now, and why; changes come as `states`."""
        return HealthOut.of(await upkeep.health(cluster_id), lang)

    @api.get("/clusters/{cluster_id}/certificates")
    @requires(Role.VIEWER)
    async def list_certificates(cluster_id: str, lang: Lang) -> CertificatesOut:
        """Read on the hosts now, the one that ends soonest first."""
        found, failures = await upkeep.certificates(cluster_id)
        return CertificatesOut.of(found, failures, lang)

    @api.post("/clusters/{cluster_id}/certificates/renew", status_code=202)
    @requires(Role.OPERATOR)
    async def renew_certificates(
        cluster_id: str, body: RenewIn, by: Caller, response: Response
    ) -> AcceptedOut:
        """One control plane after the other; it happens by itself in time (`clusters.renew_…`)."""
        operation = await upkeep.renew_certificates(cluster_id, by=by, every=body.every)
        return accepted(response, operation)


def _backups(api: APIRouter, upkeep: Upkeep) -> None:
    @api.post("/clusters/{cluster_id}/backups", status_code=202)
    @requires(Role.OPERATOR)
    async def back_up_cluster(cluster_id: str, by: Caller, response: Response) -> AcceptedOut:
        """etcd, certificates and configuration, kept encrypted on the server."""
        return accepted(response, await upkeep.back_up_cluster(cluster_id, by=by))

    @api.get("/clusters/{cluster_id}/backups")
    @requires(Role.VIEWER)
    async def list_backups(
        cluster_id: str, page: Annotated[PageQuery, Depends()]
    ) -> PageOut[BackupOut]:
        """Newest first; they outlive their cluster."""
        found = await upkeep.backups(cluster_id, limit=page.limit, cursor=page.cursor)
        items = [BackupOut.model_validate(one) for one in found.items]
        return PageOut(items=items, next_cursor=found.next_cursor)

    @api.get("/clusters/{cluster_id}/backups/{backup_id}")
    @requires(Role.VIEWER)
    async def get_backup(cluster_id: str, backup_id: str) -> BackupOut:
        return BackupOut.model_validate(await upkeep.backup(cluster_id, backup_id))

    @api.get("/clusters/{cluster_id}/backups/{backup_id}/content", response_class=StreamingResponse)
    @requires(Role.ADMIN)
    async def download_backup(cluster_id: str, backup_id: str, by: Caller) -> StreamingResponse:
        """The archive in clear (tar.gz): it holds the cluster's private keys."""
        found = await upkeep.download_backup(cluster_id, backup_id, by=by)
        return StreamingResponse(
            found.pieces,
            media_type="application/gzip",
            headers={
                "Cache-Control": "no-store",
                "Content-Disposition": f'attachment; filename="{backup_id}.tar.gz"',
            },
        )

    @api.delete("/clusters/{cluster_id}/backups/{backup_id}", status_code=204)
    @requires(Role.ADMIN)
    async def delete_backup(cluster_id: str, backup_id: str, by: Caller) -> None:
        await upkeep.delete_backup(cluster_id, backup_id, by=by)

    @api.post("/clusters/{cluster_id}/restore", status_code=202)
    @requires(Role.ADMIN)
    async def restore_cluster(
        cluster_id: str, body: RestoreIn, by: Caller, response: Response
    ) -> AcceptedOut:
        """All control planes go back to a backup; or, where all are lost, another device becomes
        the control plane from it.
        """
        operation = await upkeep.restore_cluster(
            cluster_id,
            backup_id=body.backup_id,
            onto=body.onto_device_id,
            leave_out_away=body.leave_out_away,
            consent=body.consent(),
            by=by,
        )
        return accepted(response, operation)


def _repair(api: APIRouter, upkeep: Upkeep) -> None:
    @api.post("/clusters/{cluster_id}/nodes/{device_id}/readdress", status_code=202)
    @requires(Role.OPERATOR)
    async def readdress_node(
        cluster_id: str, device_id: str, body: ReaddressIn, by: Caller, response: Response
    ) -> AcceptedOut:
        """The node has another address. Workers are led home without this; a control plane's part
        of the API is away for a moment.
        """
        operation = await upkeep.readdress_node(cluster_id, device_id, address=body.address, by=by)
        return accepted(response, operation)

    @api.post("/clusters/{cluster_id}/control-planes/readdress", status_code=202)
    @requires(Role.ADMIN)
    async def readdress_control_planes(
        cluster_id: str, body: ReaddressAllIn, by: Caller, response: Response
    ) -> AcceptedOut:
        """So many control planes have other addresses that etcd has no majority. The API is away
        meanwhile, AIs go on.
        """
        operation = await upkeep.readdress_control_planes(
            cluster_id, leave_out_away=body.leave_out_away, by=by
        )
        return accepted(response, operation)

    @api.post("/clusters/{cluster_id}/nodes/{device_id}/replace", status_code=202)
    @requires(Role.OPERATOR)
    async def replace_node(
        cluster_id: str, device_id: str, body: ReplaceIn, by: Caller, response: Response
    ) -> AcceptedOut:
        """Another device takes its place, its AIs and cameras with it."""
        operation = await upkeep.replace_node(
            cluster_id,
            device_id,
            body.device_id,
            force=body.force,
            consent=body.consent(),
            by=by,
        )
        return accepted(response, operation)

    @api.post("/server/readdress", status_code=202)
    @requires(Role.ADMIN)
    async def readdress_server(by: Caller, response: Response) -> AcceptedOut:
        """This server has another address, and its settings say so already: tell every node."""
        return accepted(response, await upkeep.readdress_server(by=by))
