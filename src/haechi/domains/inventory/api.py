"""REST of the inventory. Thin: shapes in, service call, shapes out."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query, Request, Response

from haechi.core.access import Role, requires
from haechi.domains.inventory.model import Camera, Device, DeviceRole, Group
from haechi.domains.inventory.service import Inventory
from haechi.domains.inventory.shapes import (
    CameraEditIn,
    CameraIn,
    CameraOut,
    DeviceEditIn,
    DeviceIn,
    DeviceOut,
    GroupEditIn,
    GroupIn,
    GroupOut,
    ImportedOut,
    ImportOut,
    LinkIn,
    LinkOut,
    LinkSuggestionOut,
    SiteEditIn,
    SiteOut,
)
from haechi.domains.inventory.transfer import Imported, Transfer
from haechi.rest import Caller, PageOut, PageQuery, check_etag, etag_of

NameQuery = Annotated[str | None, Query(max_length=128)]
RefQuery = Annotated[str | None, Query(max_length=64)]
Paging = Annotated[PageQuery, Depends()]


def router(inventory: Inventory) -> APIRouter:
    api = APIRouter()
    api.include_router(_site(inventory))
    api.include_router(_devices(inventory))
    api.include_router(_cameras(inventory))
    api.include_router(_links(inventory))
    api.include_router(_groups(inventory))
    api.include_router(_transfer(Transfer(inventory)))
    return api


def _site(inventory: Inventory) -> APIRouter:
    api = APIRouter(tags=["site"])

    @api.get("/site")
    @requires(Role.VIEWER)
    async def get_site(response: Response) -> SiteOut:
        site = await inventory.site()
        response.headers["ETag"] = etag_of(site.id, site.revision)
        return SiteOut.of(site)

    @api.patch("/site")
    @requires(Role.OPERATOR)
    async def edit_site(
        body: SiteEditIn, request: Request, response: Response, by: Caller
    ) -> SiteOut:
        known = await inventory.site()
        check_etag(request, etag_of(known.id, known.revision))
        site = await inventory.edit_site(body.fields(), by=by, revision=known.revision)
        response.headers["ETag"] = etag_of(site.id, site.revision)
        return SiteOut.of(site)

    return api


def _devices(inventory: Inventory) -> APIRouter:
    api = APIRouter(tags=["devices"])

    async def shown(device: Device, response: Response) -> DeviceOut:
        response.headers["ETag"] = etag_of(device.id, device.revision)
        aliases = await inventory.aliases("device")
        return DeviceOut.of(device, inventory.watch, aliases.get(device.id, []))

    @api.get("/devices")
    @requires(Role.VIEWER)
    async def list_devices(
        page: Paging,
        name: NameQuery = None,
        role: DeviceRole | None = None,
        address: Annotated[str | None, Query(max_length=255)] = None,
    ) -> PageOut[DeviceOut]:
        """By name."""
        found = await inventory.devices.find(
            name=name, role=role, address=address, limit=page.limit, cursor=page.cursor
        )
        aliases = await inventory.aliases("device")
        return PageOut[DeviceOut](
            items=[
                DeviceOut.of(device, inventory.watch, aliases.get(device.id, []))
                for device in found.items
            ],
            next_cursor=found.next_cursor,
        )

    @api.post("/devices", status_code=201)
    @requires(Role.OPERATOR)
    async def create_device(body: DeviceIn, response: Response, by: Caller) -> DeviceOut:
        device = await inventory.devices.create(body.fields(), by=by)
        response.headers["Location"] = f"/api/v1/devices/{device.id}"
        return await shown(device, response)

    @api.get("/devices/{device_id}")
    @requires(Role.VIEWER)
    async def get_device(device_id: str, response: Response) -> DeviceOut:
        """By id, or by the id of another system."""
        return await shown(await inventory.devices.get(device_id), response)

    @api.patch("/devices/{device_id}")
    @requires(Role.OPERATOR)
    async def edit_device(
        device_id: str, body: DeviceEditIn, request: Request, response: Response, by: Caller
    ) -> DeviceOut:
        known = await inventory.devices.get(device_id)
        check_etag(request, etag_of(known.id, known.revision))
        device = await inventory.devices.edit(
            known.id, body.fields(), by=by, revision=known.revision
        )
        return await shown(device, response)

    @api.delete("/devices/{device_id}", status_code=204)
    @requires(Role.OPERATOR)
    async def delete_device(device_id: str, by: Caller, force: bool = False) -> None:
        """409 naming every use; `force` lets its cameras go without a home device."""
        await inventory.devices.delete(device_id, by=by, force=force)

    return api


def _cameras(inventory: Inventory) -> APIRouter:
    api = APIRouter(tags=["cameras"])

    async def shown(camera: Camera, response: Response) -> CameraOut:
        response.headers["ETag"] = etag_of(camera.id, camera.revision)
        aliases = await inventory.aliases("camera")
        return CameraOut.of(camera, inventory.watch, aliases.get(camera.id, []))

    @api.get("/cameras")
    @requires(Role.VIEWER)
    async def list_cameras(
        page: Paging, name: NameQuery = None, device_id: RefQuery = None
    ) -> PageOut[CameraOut]:
        """By name."""
        found = await inventory.cameras.find(
            name=name, device_id=device_id, limit=page.limit, cursor=page.cursor
        )
        aliases = await inventory.aliases("camera")
        return PageOut[CameraOut](
            items=[
                CameraOut.of(camera, inventory.watch, aliases.get(camera.id, []))
                for camera in found.items
            ],
            next_cursor=found.next_cursor,
        )

    @api.post("/cameras", status_code=201)
    @requires(Role.OPERATOR)
    async def create_camera(body: CameraIn, response: Response, by: Caller) -> CameraOut:
        camera = await inventory.cameras.create(body.fields(), by=by)
        response.headers["Location"] = f"/api/v1/cameras/{camera.id}"
        return await shown(camera, response)

    @api.get("/cameras/{camera_id}")
    @requires(Role.VIEWER)
    async def get_camera(camera_id: str, response: Response) -> CameraOut:
        return await shown(await inventory.cameras.get(camera_id), response)

    @api.patch("/cameras/{camera_id}")
    @requires(Role.OPERATOR)
    async def edit_camera(
        camera_id: str, body: CameraEditIn, request: Request, response: Response, by: Caller
    ) -> CameraOut:
        """A URL as shown means "unchanged"; the password stays unless another is sent."""
        known = await inventory.cameras.get(camera_id)
        check_etag(request, etag_of(known.id, known.revision))
        camera = await inventory.cameras.edit(
            known.id, body.fields(), by=by, revision=known.revision
        )
        return await shown(camera, response)

    @api.delete("/cameras/{camera_id}", status_code=204)
    @requires(Role.OPERATOR)
    async def delete_camera(camera_id: str, by: Caller, force: bool = False) -> None:
        await inventory.cameras.delete(camera_id, by=by, force=force)

    return api


def _links(inventory: Inventory) -> APIRouter:
    api = APIRouter(tags=["links"])

    @api.get("/links")
    @requires(Role.VIEWER)
    async def list_links(camera_id: RefQuery = None) -> PageOut[LinkOut]:
        """Which cameras are neighbours."""
        links = await inventory.links.all(camera_id=camera_id)
        items = [LinkOut.model_validate(link) for link in links]
        return PageOut[LinkOut](items=items, next_cursor=None)

    @api.post("/links", status_code=201)
    @requires(Role.OPERATOR)
    async def create_link(body: LinkIn, by: Caller) -> LinkOut:
        link = await inventory.links.create(
            body.camera_a,
            body.camera_b,
            by=by,
            preset_a=body.preset_a,
            preset_b=body.preset_b,
            origin=body.origin,
        )
        return LinkOut.model_validate(link)

    @api.get("/links/suggestions")
    @requires(Role.VIEWER)
    async def suggest_links(
        max_m: Annotated[float, Query(gt=0, le=100_000, allow_inf_nan=False)] = 50,
    ) -> PageOut[LinkSuggestionOut]:
        """Cameras within `max_m` metres by their coordinates that are not linked yet."""
        found = await inventory.links.suggest(max_m=max_m)
        items = [LinkSuggestionOut.model_validate(item) for item in found]
        return PageOut[LinkSuggestionOut](items=items, next_cursor=None)

    @api.delete("/links/{link_id}", status_code=204)
    @requires(Role.OPERATOR)
    async def delete_link(link_id: str, by: Caller) -> None:
        await inventory.links.delete(link_id, by=by)

    return api


def _groups(inventory: Inventory) -> APIRouter:
    api = APIRouter(tags=["groups"])

    def shown(group: Group, response: Response) -> GroupOut:
        response.headers["ETag"] = etag_of(group.id, group.revision)
        return GroupOut.model_validate(group)

    @api.get("/groups")
    @requires(Role.VIEWER)
    async def list_groups(page: Paging, name: NameQuery = None) -> PageOut[GroupOut]:
        found = await inventory.groups.find(name=name, limit=page.limit, cursor=page.cursor)
        items = [GroupOut.model_validate(group) for group in found.items]
        return PageOut[GroupOut](items=items, next_cursor=found.next_cursor)

    @api.post("/groups", status_code=201)
    @requires(Role.OPERATOR)
    async def create_group(body: GroupIn, response: Response, by: Caller) -> GroupOut:
        group = await inventory.groups.create(
            body.name, body.device_ids, by=by, description=body.description
        )
        response.headers["Location"] = f"/api/v1/groups/{group.id}"
        return shown(group, response)

    @api.get("/groups/{group_id}")
    @requires(Role.VIEWER)
    async def get_group(group_id: str, response: Response) -> GroupOut:
        return shown(await inventory.groups.get(group_id), response)

    @api.patch("/groups/{group_id}")
    @requires(Role.OPERATOR)
    async def edit_group(
        group_id: str, body: GroupEditIn, request: Request, response: Response, by: Caller
    ) -> GroupOut:
        known = await inventory.groups.get(group_id)
        check_etag(request, etag_of(known.id, known.revision))
        group = await inventory.groups.edit(
            known.id,
            by=by,
            name=body.name,
            description=body.description,
            device_ids=body.device_ids,
            revision=known.revision,
        )
        return shown(group, response)

    @api.delete("/groups/{group_id}", status_code=204)
    @requires(Role.OPERATOR)
    async def delete_group(group_id: str, by: Caller, force: bool = False) -> None:
        await inventory.groups.delete(group_id, by=by, force=force)

    return api


def _transfer(transfer: Transfer) -> APIRouter:
    api = APIRouter(tags=["inventory"])

    def shown(items: list[Imported]) -> list[ImportedOut]:
        return [ImportedOut(kind=item.kind, name=item.name, id=item.id or None) for item in items]

    @api.get("/inventory/export")
    @requires(Role.VIEWER)
    async def export_inventory() -> dict[str, Any]:
        """Site, devices, cameras, links and groups as one document, without any secret."""
        return await transfer.export()

    @api.post("/inventory/import")
    @requires(Role.OPERATOR)
    async def import_inventory(
        body: Annotated[dict[str, Any] | list[Any], Body()],
        by: Caller,
        dry_run: bool = False,
    ) -> ImportOut:
        """All or nothing; also takes historic master and device records. 422 lists every problem.
        Repeating it changes nothing.
        """
        outcome = await transfer.import_document(body, by=by, dry_run=dry_run)
        return ImportOut(
            dry_run=dry_run,
            created=shown(outcome.created),
            updated=shown(outcome.updated),
            unchanged=outcome.unchanged,
        )

    return api
