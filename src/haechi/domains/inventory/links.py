"""Neighbour links between cameras, by hand or from their distance."""

import sqlalchemy as sa

from haechi.core.access import Principal
from haechi.core.ids import new_id
from haechi.domains.inventory import rules, store
from haechi.domains.inventory.context import Change, Context
from haechi.domains.inventory.model import (
    BadValue,
    DuplicateLink,
    Link,
    LinkSuggestion,
    SelfLink,
    UnknownReference,
)
from haechi.domains.inventory.store import CameraRow, DeviceRow, LinkRow
from haechi.errors import ObjectNotFound


class Links:
    def __init__(self, context: Context) -> None:
        self._context = context

    async def all(self, *, camera_id: str | None = None) -> list[Link]:
        query = sa.select(LinkRow).order_by(LinkRow.camera_a, LinkRow.camera_b)
        if camera_id is not None:
            query = query.where(
                sa.or_(LinkRow.camera_a == camera_id, LinkRow.camera_b == camera_id)
            )
        async with self._context.db.read() as tx:
            return [store.to_link(row) for row in await tx.scalars(query)]

    async def neighbours(self, camera_id: str) -> list[str]:
        """Ids of the cameras linked to this one."""
        return [link.other(camera_id) for link in await self.all(camera_id=camera_id)]

    async def create(
        self,
        camera_a: str,
        camera_b: str,
        *,
        by: Principal,
        preset_a: str | None = None,
        preset_b: str | None = None,
        origin: str = "hand",
    ) -> Link:
        async with self._context.change(by) as change:
            row = await self.add(
                change, camera_a, camera_b, preset_a=preset_a, preset_b=preset_b, origin=origin
            )
            return store.to_link(row)

    async def add(
        self,
        change: Change,
        camera_a: str,
        camera_b: str,
        *,
        preset_a: str | None = None,
        preset_b: str | None = None,
        origin: str = "hand",
    ) -> LinkRow:
        """`create` inside a change that does more. Order of the two does not matter."""
        tx = change.tx
        ends = []
        for field, ref, preset in (
            ("camera_a", camera_a, preset_a),
            ("camera_b", camera_b, preset_b),
        ):
            try:
                row = await store.row_of(tx, CameraRow, "camera", ref)
            except ObjectNotFound as error:
                raise UnknownReference(field=field, kind="camera", ref=ref) from error
            if preset is not None and preset not in {item["name"] for item in row.ptz_presets}:
                known = ", ".join(item["name"] for item in row.ptz_presets) or "-"
                raise BadValue(field=field.replace("camera", "preset"), reason=f"presets: {known}")
            ends.append((row, preset))
        (one, preset_one), (other, preset_other) = sorted(ends, key=lambda end: end[0].id)
        if one.id == other.id:
            raise SelfLink
        query = sa.select(LinkRow.id).where(
            LinkRow.camera_a == one.id, LinkRow.camera_b == other.id
        )
        known_id = await tx.scalar(query)
        if known_id is not None:
            raise DuplicateLink(id=known_id)
        places = [store.gps_of(one), store.gps_of(other)]
        metres = rules.distance_m(places[0], places[1]) if places[0] and places[1] else None
        link = LinkRow(
            id=new_id("link"),
            camera_a=one.id,
            camera_b=other.id,
            origin=origin,
            distance_m=None if metres is None else round(metres, 1),
            preset_a=preset_one,
            preset_b=preset_other,
            created_at=self._context.clock.now(),
        )
        tx.add(link)
        await tx.flush()
        await change.note("create", "link", link.id, {"cameras": [one.id, other.id]})
        return link

    async def delete(self, link_id: str, *, by: Principal) -> None:
        async with self._context.change(by) as change:
            row = await change.tx.get(LinkRow, link_id)
            if row is None:
                raise ObjectNotFound(kind="link", id=link_id)
            await change.tx.delete(row)
            await change.note("delete", "link", link_id)

    async def suggest(self, *, max_m: float) -> list[LinkSuggestion]:
        """Camera pairs within `max_m` metres that are not linked yet, nearest first."""
        async with self._context.db.read() as tx:
            cameras = [store.to_camera(row) for row in await tx.scalars(sa.select(CameraRow))]
            devices = [store.to_device(row) for row in await tx.scalars(sa.select(DeviceRow))]
            linked = {(row.camera_a, row.camera_b) for row in await tx.scalars(sa.select(LinkRow))}
        return rules.suggest_links(cameras, devices, linked, max_m=max_m)
