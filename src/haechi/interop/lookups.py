"""Ids: haechi's own, then foreign ones kept as aliases, then the external VMS, whose answer is
imported and its id kept.

Which id is shown: the one that the caller used; else the only foreign one; else haechi's own.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from haechi.core.access import SYSTEM, Principal
from haechi.core.pages import MAX_LIMIT
from haechi.core.secrets import Secret
from haechi.core.tasks import Tasks
from haechi.domains.inventory import rules
from haechi.domains.inventory.devices import DeviceFields
from haechi.domains.inventory.model import Device
from haechi.domains.packages.model import PackageVersion
from haechi.errors import AppError, ObjectNotFound, Text
from haechi.interop import store
from haechi.interop.clusters import Cluster
from haechi.interop.codes import Refusal
from haechi.interop.problems import explain
from haechi.interop.services import Services
from haechi.interop.vms import Vms

log = logging.getLogger(__name__)

FRESH_S: Final = 60.0
"""A record that came from the VMS is asked for again after so long, behind the caller's back."""
UNKNOWN_S: Final = 10.0
"""What nobody knew is not asked for again so soon by callers that report every second."""
_REMEMBERED: Final = 4096
T = TypeVar("T")


class ForeignAi:
    """An AI that only the VMS knows: its zip has to be fetched first."""

    def __init__(self, ref: str, file_name: str, version: str) -> None:
        self.ref = ref
        self.file_name = file_name
        self.version = version


class Lookups:
    def __init__(self, services: Services) -> None:
        self._s = services
        self._tasks = Tasks("interop-lookups")
        self._locks: dict[str, asyncio.Lock] = {}
        self._asked_s: OrderedDict[str, float] = OrderedDict()
        self._unknown: OrderedDict[str, tuple[float, Refusal]] = OrderedDict()

    async def close(self) -> None:
        await self._tasks.close()

    # --- devices and masters

    async def device(self, ref: str, *, master: bool = False, patient: bool = True) -> Device:
        """Raises Refusal 0004, 0014. Not `patient`: what was unknown a moment ago still is."""
        try:
            found = await self._s.inventory.devices.get(ref)
        except ObjectNotFound:
            vms = self._vms_or_unknown("device", ref)
            if not patient:
                self._refuse_again(f"device/{ref}")
            async with self._lock(f"device/{ref}"):
                return await self._import_device(vms, ref, master=master)
        if found.id != ref:
            self._refresh(f"device/{ref}", lambda vms: self._import_device(vms, ref, master=master))
        return found

    async def _import_device(self, vms: Vms, ref: str, *, master: bool) -> Device:
        path = "/get_selectedMasterInfo" if master else "/get_selectedDeviceInfo"
        try:
            told = await vms.look_up(path, id=ref)
            return await self._take_device(ref, _device_fields(told, master=master))
        except Refusal as error:
            self._remember_unknown(f"device/{ref}", error)
            raise
        except AppError as error:
            refusal = Refusal("0014")
            refusal.detail = Text(f"VMS: {explain(error, 'ko')}", f"VMS: {explain(error, 'en')}")
            raise refusal from error

    async def _take_device(self, ref: str, fields: DeviceFields) -> Device:
        devices = self._s.inventory.devices
        self._asked(f"device/{ref}")
        known = await self._known_device(ref, fields["name"])
        if known is None:
            return await devices.create(fields, by=_VMS, alias=ref)
        if known.name != fields["name"] and await devices.by_name(fields["name"]) is not None:
            del fields["name"]
        await devices.edit(known.id, fields, by=_VMS)
        await devices.add_alias(known.id, ref, by=_VMS)
        return await devices.get(known.id)

    async def _known_device(self, ref: str, name: str) -> Device | None:
        try:
            return await self._s.inventory.devices.get(ref)
        except ObjectNotFound:
            return await self._s.inventory.devices.by_name(name)

    async def shown_devices(self) -> Callable[[str], str]:
        """Device id → the id to show where the caller named none."""
        aliases = await self._s.inventory.aliases("device")
        return lambda device_id: _shown(device_id, aliases)

    # --- clusters

    async def cluster(self, ref: str, *, deleted: bool = False) -> Cluster:
        """`deleted`: also one that has hosts left to be cleaned."""
        clusters = self._s.clusters
        known = await clusters.get(ref)
        if known is None:
            alias = await self._s.inventory.resolve("cluster", ref)
            known = None if alias is None else await clusters.get(alias)
        if known is not None and known.deleted and not deleted:
            raise _unknown("cluster", ref)
        if known is not None:
            return known
        vms = self._vms_or_unknown("cluster", ref)
        async with self._lock(f"cluster/{ref}"):
            return await self._import_cluster(vms, ref)

    async def _import_cluster(self, vms: Vms, ref: str) -> Cluster:
        """Matched by its master: forming it carried no id, so this may be ours."""
        told = await vms.look_up("/get_selectedClusterInfo", id=ref)
        master = await self.device(_told_text(told, "mid"), master=True)
        cluster = next((one for one in await self._s.clusters.all() if one.mid == master.id), None)
        if cluster is None:
            workers = [await self.device(wid) for wid in _told_workers(told)]
            cluster = await self._s.clusters.record(
                master.id, [one.id for one in workers], name=str(told.get("name", "")), by=_VMS
            )
        await self.keep_alias("cluster", ref, cluster.id)
        return cluster

    async def shown_clusters(self) -> Callable[[str], str]:
        aliases = await self._s.inventory.aliases("cluster")
        return lambda cluster_id: _shown(cluster_id, aliases)

    # --- AIs: versions of packages

    async def ai(self, ref: str) -> PackageVersion:
        """Raises Refusal 0004 where it would have to be fetched first."""
        found = await self.ai_or_foreign(ref)
        if isinstance(found, ForeignAi):
            raise _unknown("ai", ref)
        return found

    async def ai_or_foreign(self, ref: str) -> PackageVersion | ForeignAi:
        known = await self.known_ai(ref)
        if known is not None:
            if known.id != ref:
                self._refresh(f"ai/{ref}", lambda vms: self._match_ai(vms, ref))
            return known
        vms = self._vms_or_unknown("ai", ref)
        async with self._lock(f"ai/{ref}"):
            return await self._match_ai(vms, ref)

    async def known_ai(self, ref: str) -> PackageVersion | None:
        """By version id, foreign id, or the id of a deployment of it (which AIs are told)."""
        packages = self._s.packages
        alias = await self._s.inventory.resolve("version", ref)
        for candidate in (ref, alias):
            if candidate is None:
                continue
            try:
                return await packages.version(candidate)
            except ObjectNotFound:
                continue
        try:
            deployment = await self._s.deployments.book.get(ref)
            return await packages.version(deployment.version_id)
        except AppError:
            return None

    async def _match_ai(self, vms: Vms, ref: str) -> PackageVersion | ForeignAi:
        told = await vms.look_up("/get_selectedEdgeAiInfo", id=ref)
        file_name, version = _told_text(told, "name"), _told_text(told, "version")
        self._asked(f"ai/{ref}")
        found = await self.version_of_file(file_name, version)
        if found is None:
            return ForeignAi(ref, file_name, version)
        await self.keep_alias("version", ref, found.id)
        return found

    async def version_of_file(self, file_name: str, version: str) -> PackageVersion | None:
        return next(
            (one for one in await self.versions_of_file(file_name) if one.version == version), None
        )

    async def versions_of_file(self, file_name: str) -> list[PackageVersion]:
        """Newest first: of the package named so, or of any whose zip was called so."""
        stem = file_name[:-4] if file_name.lower().endswith(".zip") else file_name
        packages = self._s.packages
        found: list[PackageVersion] = []
        for summary in (await packages.find(limit=MAX_LIMIT)).items:
            about = summary.package
            versions = (await packages.versions(about.id, limit=MAX_LIMIT)).items
            mine = stem in {about.original_name, about.name}
            found += [one for one in versions if mine or one.file_name in {file_name, stem}]
        return sorted(found, key=lambda one: (one.updated_at, one.id), reverse=True)

    async def shown_ais(self) -> Callable[[str], str]:
        aliases = await self._s.inventory.aliases("version")
        return lambda version_id: _shown(version_id, aliases)

    async def keep_alias(self, kind: str, alias: str, subject: str) -> None:
        """From now on the foreign id means this."""
        if alias == subject:
            return
        async with self._s.db.write() as tx:
            await store.point_alias(tx, kind, alias, subject)

    async def new_alias(self, kind: str, alias: str, subject: str) -> None:
        """Raises AliasTaken where it means something else already."""
        if alias == subject:
            return
        async with self._s.db.write() as tx:
            await self._s.inventory.add_alias(tx, kind, alias, subject)

    # --- small

    def _vms_or_unknown(self, kind: str, ref: str) -> Vms:
        if self._s.vms is None:
            raise _unknown(kind, ref)
        return self._s.vms

    def _lock(self, key: str) -> asyncio.Lock:
        if len(self._locks) > _REMEMBERED:
            self._locks = {key: lock for key, lock in self._locks.items() if lock.locked()}
        return self._locks.setdefault(key, asyncio.Lock())

    def _asked(self, key: str) -> None:
        self._asked_s[key] = self._s.clock.monotonic()
        while len(self._asked_s) > _REMEMBERED:
            self._asked_s.popitem(last=False)

    def _refresh(self, key: str, ask: Callable[[Vms], Awaitable[Any]]) -> None:
        """Keep what came from the VMS fresh; its failures are only logged."""
        vms = self._s.vms
        if vms is None or self._s.clock.monotonic() - self._asked_s.get(key, 0.0) < FRESH_S:
            return
        if key not in self._asked_s:
            # Given by a caller, or known since before this start: ask once, at leisure.
            self._asked(key)
            return
        self._asked(key)

        async def refresh() -> None:
            try:
                await ask(vms)
            except (Refusal, AppError) as error:
                log.info("refreshing %s from the VMS: %s", key[:80], error)

        _ = self._tasks.spawn("refresh", refresh())

    def _remember_unknown(self, key: str, error: Refusal) -> None:
        self._unknown[key] = (self._s.clock.monotonic() + UNKNOWN_S, error)
        while len(self._unknown) > _REMEMBERED:
            self._unknown.popitem(last=False)

    def _refuse_again(self, key: str) -> None:
        until_s, error = self._unknown.get(key, (0.0, None))
        if error is not None and self._s.clock.monotonic() < until_s:
            raise error


_VMS: Final = Principal(kind="system", id="interop:vms", name="external VMS", role=SYSTEM.role)


def _shown(own_id: str, aliases: dict[str, list[str]]) -> str:
    foreign = aliases.get(own_id, [])
    return foreign[0] if len(foreign) == 1 else own_id


def _unknown(kind: str, ref: str) -> Refusal:
    kinds = {"device": "장치", "cluster": "클러스터", "ai": "AI"}
    return Refusal(
        "0004", f"{kinds[kind]} ID '{ref}'을(를) 알 수 없습니다.", f"There is no {kind} '{ref}'."
    )


def _told_text(told: dict[str, Any], name: str) -> str:
    """A text of the VMS's answer; without it the answer is of no use."""
    value = told.get(name)
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise Refusal(
            "0014", f"VMS의 응답에 {name}이(가) 없습니다.", f"The VMS's answer has no {name}."
        )
    return str(value)


def _told_workers(told: dict[str, Any]) -> list[str]:
    workers = told.get("wlist")
    if not isinstance(workers, list):
        raise Refusal("0014", "VMS의 응답에 wlist가 없습니다.", "The VMS's answer has no wlist.")
    return [
        _told_text(worker if isinstance(worker, dict) else {"wid": worker}, "wid")
        for worker in workers[:100]
    ]


def _device_fields(told: dict[str, Any], *, master: bool) -> DeviceFields:
    name = _told_text(told, "name")
    fields: DeviceFields = {"name": name, "address": _told_text(told, "ip")}
    if master:
        fields["role"] = "server"
    host_name = told.get("host_name")
    for candidate in (host_name, name):
        if isinstance(candidate, str) and rules.is_host_name(candidate):
            fields["host_name"] = candidate
            break
    if isinstance(told.get("host_pwd"), str) and told["host_pwd"]:
        fields["ssh_password"] = Secret(told["host_pwd"])
    if isinstance(told.get("description"), str):
        fields["description"] = told["description"][: rules.MAX_TEXT]
    if not master and isinstance(told.get("address"), str):
        fields["postal_address"] = told["address"][: rules.MAX_TEXT]
    return fields
