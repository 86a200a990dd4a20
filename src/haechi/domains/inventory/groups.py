"""Groups of devices, so that a deployment can name several at once."""

import sqlalchemy as sa

from haechi.core.access import Principal
from haechi.core.ids import new_id
from haechi.core.pages import DEFAULT_LIMIT, Page
from haechi.domains.inventory import rules, store
from haechi.domains.inventory.context import Change, Context
from haechi.domains.inventory.model import DuplicateName, Group, UnknownReference
from haechi.domains.inventory.store import DeviceRow, GroupMemberRow, GroupRow
from haechi.errors import ObjectNotFound, StaleEdit


class Groups:
    def __init__(self, context: Context) -> None:
        self._context = context

    async def get(self, group_id: str) -> Group:
        async with self._context.db.read() as tx:
            return await store.to_group(tx, await store.row_of(tx, GroupRow, "group", group_id))

    async def find(
        self, *, name: str | None = None, limit: int = DEFAULT_LIMIT, cursor: str | None = None
    ) -> Page[Group]:
        conditions = [] if name is None else [GroupRow.name_key == rules.name_key(name)]
        async with self._context.db.read() as tx:
            page = await store.page(tx, GroupRow, conditions, limit=limit, cursor=cursor)
            return Page([await store.to_group(tx, row) for row in page.items], page.next_cursor)

    async def create(
        self, name: str, device_ids: list[str], *, by: Principal, description: str = ""
    ) -> Group:
        async with self._context.change(by) as change:
            row = await self.add(change, name, device_ids, description=description)
            return await store.to_group(change.tx, row)

    async def add(
        self, change: Change, name: str, device_ids: list[str], *, description: str = ""
    ) -> GroupRow:
        """`create` inside a change that does more."""
        name = rules.name(name)
        await self._refuse_duplicate(change, name, own_id="")
        row = GroupRow(
            id=new_id("group"),
            name=name,
            name_key=rules.name_key(name),
            description=rules.text("description", description),
            revision=1,
            created_at=self._context.clock.now(),
        )
        change.tx.add(row)
        await change.tx.flush()
        await self._set_members(change, row, device_ids)
        await change.note("create", "group", row.id, {"name": name, "device_ids": device_ids})
        return row

    async def edit(
        self,
        group_id: str,
        *,
        by: Principal,
        name: str | None = None,
        description: str | None = None,
        device_ids: list[str] | None = None,
        revision: int | None = None,
    ) -> Group:
        async with self._context.change(by) as change:
            row = await store.row_of(change.tx, GroupRow, "group", group_id)
            if revision is not None and row.revision != revision:
                raise StaleEdit
            await self.apply(change, row, name=name, description=description, device_ids=device_ids)
            return await store.to_group(change.tx, row)

    async def apply(
        self,
        change: Change,
        row: GroupRow,
        *,
        name: str | None = None,
        description: str | None = None,
        device_ids: list[str] | None = None,
    ) -> None:
        """`edit` inside a change that does more."""
        if name is not None:
            name = rules.name(name)
            await self._refuse_duplicate(change, name, own_id=row.id)
            row.name, row.name_key = name, rules.name_key(name)
        if description is not None:
            row.description = rules.text("description", description)
        if device_ids is not None:
            await self._set_members(change, row, device_ids)
        row.revision += 1
        await change.tx.flush()
        await change.note("edit", "group", row.id, {"name": row.name})

    async def delete(self, group_id: str, *, by: Principal, force: bool = False) -> None:
        """Its devices stay."""
        async with self._context.change(by) as change:
            row = await store.row_of(change.tx, GroupRow, "group", group_id)
            await self._context.clear_uses(
                change.tx, "group", row.id, row.name, own=[], force=force
            )
            await change.tx.delete(row)
            await change.note("delete", "group", row.id, {"name": row.name})

    async def _refuse_duplicate(self, change: Change, name: str, *, own_id: str) -> None:
        other = await store.row_by_name(change.tx, GroupRow, rules.name_key(name))
        if other is not None and other.id != own_id:
            raise DuplicateName(kind="group", name=name, id=other.id)

    async def _set_members(self, change: Change, row: GroupRow, refs: list[str]) -> None:
        ids = []
        for ref in refs:
            try:
                ids.append((await store.row_of(change.tx, DeviceRow, "device", ref)).id)
            except ObjectNotFound as error:
                raise UnknownReference(field="device_ids", kind="device", ref=ref) from error
        await change.tx.execute(sa.delete(GroupMemberRow).where(GroupMemberRow.group_id == row.id))
        change.tx.add_all(
            GroupMemberRow(group_id=row.id, device_id=device_id) for device_id in dict.fromkeys(ids)
        )
        await change.tx.flush()
