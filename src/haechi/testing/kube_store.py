"""Kubernetes objects in memory, with what server-side apply and watching rest on.

As much as haechi relies on and no more: owners of fields (by leaf), conflicts, generations,
resource versions, watches with a history that can be cut, finalising deletion in the foreground,
and garbage collection by owner references.
"""

import asyncio
import copy
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

Path = tuple[str, ...]
Object = dict[str, Any]

_KEYED: Final = {"containers": "name", "initContainers": "name", "volumes": "name", "env": "name"}
"""Lists that are merged item by item; all others are replaced as a whole."""
_SERVER_OWNED: Final = frozenset(
    {"uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "name",
     "namespace", "deletionTimestamp"}
)  # fmt: skip


class Key(NamedTuple):
    api_version: str
    plural: str
    namespace: str
    name: str


class Refusal(Exception):
    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message


class Change(NamedTuple):
    version: int
    type: str
    key: Key
    seen: Object


@dataclass
class KubeStore:
    objects: dict[Key, Object] = field(default_factory=dict)
    history: list[Change] = field(default_factory=list)
    oldest: int = 0
    """Changes up to this version are forgotten: a watch from there gets 410."""
    keeps: Callable[[Key, Object], bool] = lambda _key, _object: False
    """Whether a deletion only marks it, for somebody else to finish (a kubelet)."""
    raw: dict[str, Object | Refusal] = field(default_factory=dict)
    """What is answered at paths that are no objects."""
    _versions: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _owners: dict[Key, dict[str, set[Path]]] = field(default_factory=dict)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def version(self) -> int:
        return self.history[-1].version if self.history else self.oldest

    # --- reading

    def get(self, key: Key) -> Object:
        try:
            return self.objects[key]
        except KeyError:
            raise Refusal(404, "NotFound", f'{key.plural} "{key.name}" not found') from None

    def find(self, kind: str, **labels: str) -> list[Object]:
        """For tests: objects of a kind with these labels (`__` stands for `/`)."""
        wanted = {name.replace("__", "/"): value for name, value in labels.items()}
        return [
            one
            for one in self.objects.values()
            if one["kind"] == kind
            and wanted.items() <= (one["metadata"].get("labels") or {}).items()
        ]

    async def wait_beyond(self, version: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self.version > version)

    # --- writing

    async def apply(
        self, key: Key, manifest: Object, *, manager: str, force: bool
    ) -> tuple[Object, bool]:
        """(object, whether it was made)."""
        given = copy.deepcopy(manifest)
        wanted = {path for path in _leaves(given) if _is_owned(path)}
        known = self.objects.get(key)
        owners = self._owners.setdefault(key, {})
        if known is None:
            made = await self.create(key, given, manager=manager)
            return made, True
        self._check_conflicts(known, given, wanted, owners, manager, force=force)
        after = copy.deepcopy(known)
        _merge(after, given)
        dropped = owners.get(manager, set()) - wanted
        for other, paths in owners.items():
            if other != manager:
                dropped -= paths
        for path in dropped:
            _remove(after, path)
        if force:
            for other in owners:
                if other != manager:
                    owners[other] -= {p for p in wanted if _at(known, p) != _at(given, p)}
        owners[manager] = wanted
        await self._put(key, known, after)
        return self.objects[key], False

    def _check_conflicts(
        self,
        known: Object,
        given: Object,
        wanted: set[Path],
        owners: Mapping[str, set[Path]],
        manager: str,
        *,
        force: bool,
    ) -> None:
        for other, paths in owners.items():
            clash = {p for p in paths & wanted if _at(known, p) != _at(given, p)}
            if other != manager and clash and not force:
                named = ", ".join("." + ".".join(path) for path in sorted(clash))
                raise Refusal(
                    409,
                    "Conflict",
                    f'Apply failed with 1 conflict: conflict with "{other}": {named}',
                )

    async def create(self, key: Key, manifest: Object, *, manager: str) -> Object:
        if key in self.objects:
            raise Refusal(409, "AlreadyExists", f'{key.plural} "{key.name}" already exists')
        namespace = Key("v1", "namespaces", "", key.namespace)
        if key.namespace and key.namespace != "default" and namespace not in self.objects:
            raise Refusal(404, "NotFound", f'namespaces "{key.namespace}" not found')
        made = copy.deepcopy(manifest)
        meta = made.setdefault("metadata", {})
        meta["name"] = key.name
        if key.namespace:
            meta["namespace"] = key.namespace
        meta["uid"] = f"uid-{next(self._versions)}"
        meta["creationTimestamp"] = _now()
        meta["generation"] = 1
        if key.plural == "pods":
            made.setdefault("status", {"phase": "Pending"})
        self._owners.setdefault(key, {})[manager] = {
            path for path in _leaves(manifest) if _is_owned(path)
        }
        await self._commit("ADDED", key, made)
        return made

    async def merge(
        self, key: Key, patch: Object, *, manager: str = "kubectl-edit", subresource: str = ""
    ) -> Object:
        """JSON merge patch, as an editor or a controller (`subresource="status"`) writes."""
        known = self.get(key)
        wanted = (patch.get("metadata") or {}).get("resourceVersion")
        if wanted is not None and wanted != known["metadata"]["resourceVersion"]:
            raise Refusal(
                409, "Conflict", "the object has been modified; please apply your changes"
            )
        after = copy.deepcopy(known)
        _merge_patch(after, patch)
        if subresource != "status":
            mine = {path for path in _leaves(patch) if _is_owned(path)}
            owners = self._owners.setdefault(key, {})
            for paths in owners.values():
                paths.difference_update(mine)
            # As in Kubernetes, what one manager edits is apart from what the same one applies.
            owners.setdefault(f"{manager} (edit)", set()).update(mine)
        await self._put(key, known, after)
        return self.objects[key]

    async def delete(self, key: Key, *, policy: str = "Background") -> None:
        known = self.get(key)
        meta = known["metadata"]
        if self.keeps(key, known):
            if "deletionTimestamp" not in meta:
                marked = copy.deepcopy(known)
                marked["metadata"]["deletionTimestamp"] = _now()
                await self._commit("MODIFIED", key, marked)
            return
        if policy == "Foreground":
            # The dependents first; those that are kept are finished by whoever keeps them.
            await self.collect(meta["uid"])
        await self.remove(key)

    async def remove(self, key: Key) -> None:
        """Really, and what it owns."""
        gone = self.objects.pop(key, None)
        if gone is None:
            return
        self._owners.pop(key, None)
        await self._commit("DELETED", key, gone)
        await self.collect(gone["metadata"]["uid"])

    async def collect(self, owner_uid: str) -> None:
        for key, one in list(self.objects.items()):
            refs = one["metadata"].get("ownerReferences") or []
            if any(ref.get("uid") == owner_uid for ref in refs) and key in self.objects:
                await self.delete(key)

    def forget_history(self) -> None:
        self.oldest = self.version
        self.history.clear()

    async def _put(self, key: Key, before: Object, after: Object) -> None:
        if after == before:
            return
        notes = [one["metadata"].get("annotations") for one in (before, after)]
        # As in Kubernetes, a Deployment's generation rises with its annotations too.
        if after.get("spec") != before.get("spec") or notes[0] != notes[1]:
            after["metadata"]["generation"] = int(before["metadata"].get("generation", 0)) + 1
        await self._commit("MODIFIED", key, after)

    async def _commit(self, change: str, key: Key, seen: Object) -> None:
        version = next(self._versions)
        seen["metadata"]["resourceVersion"] = str(version)
        if change != "DELETED":
            self.objects[key] = seen
        self.history.append(Change(version, change, key, copy.deepcopy(seen)))
        async with self._changed:
            self._changed.notify_all()


def _leaves(value: Any, at: Path = (), parent: str = "") -> Iterator[Path]:
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _leaves(inner, (*at, str(name)), str(name))
    elif isinstance(value, list) and value and parent in _KEYED:
        for item in value:
            yield from _leaves(item, (*at, f"[{item[_KEYED[parent]]}]"))
    else:
        yield at


def _is_owned(path: Path) -> bool:
    if path[0] in {"apiVersion", "kind", "status"}:
        return False
    return not (path[0] == "metadata" and (len(path) < 2 or path[1] in _SERVER_OWNED))


def _at(value: Any, path: Path) -> Any:
    for step in path:
        if step.startswith("[") and isinstance(value, list):
            value = next((v for v in value if f"[{v.get('name')}]" == step), None)
        elif isinstance(value, Mapping):
            value = value.get(step)
        else:
            return None
    return value


def _merge(into: Object, given: Object) -> None:
    for name, value in given.items():
        old = into.get(name)
        if isinstance(value, dict) and isinstance(old, dict):
            _merge(old, value)
        elif name in _KEYED and isinstance(old, list) and isinstance(value, list):
            by = {item[_KEYED[name]]: item for item in old}
            for item in value:
                known = by.get(item[_KEYED[name]])
                if known is None:
                    old.append(item)
                else:
                    _merge(known, item)
        else:
            into[name] = value


def _merge_patch(into: Object, patch: Object) -> None:
    for name, value in patch.items():
        if value is None:
            into.pop(name, None)
        elif isinstance(value, dict):
            inner = into.get(name)
            if not isinstance(inner, dict):
                inner = into[name] = {}
            _merge_patch(inner, value)
        else:
            into[name] = value


def _remove(value: Any, path: Path) -> None:
    """The leaf, and a list item or a map that it leaves empty."""
    *way, last = path
    parent = _at(value, tuple(way))
    if isinstance(parent, dict):
        parent.pop(last, None)
        if way and way[-1].startswith("[") and set(parent) <= {"name"}:
            items = _at(value, tuple(way[:-1]))
            if isinstance(items, list) and parent in items:
                items.remove(parent)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
