"""How an accepted zip becomes rows: package, version, revision. One transaction, no files."""

from datetime import datetime
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncSession

from haechi.core.access import Principal
from haechi.core.ids import new_id
from haechi.domains.audit.ports import AuditTrail
from haechi.domains.packages import names, store
from haechi.domains.packages.files import Received
from haechi.domains.packages.inspection import Inspection
from haechi.domains.packages.manifest import About
from haechi.domains.packages.model import Uploaded
from haechi.domains.packages.problems import NameCollision, VersionExists
from haechi.domains.packages.store import PackageRow, RevisionRow, VersionRow

_ABOUT: Final = ("title_ko", "title_en", "description", "author", "classes")


async def package_named(tx: AsyncSession, name: str) -> PackageRow | None:
    """The package that people call so; raises NameCollision where its label is another's."""
    label = names.label(name)
    row = await store.by_name(tx, label)
    if row is not None and name not in {row.original_name, row.name}:
        raise NameCollision(name=name, label=label, other=row.original_name)
    return row


async def refuse_conflict(
    tx: AsyncSession, name: str, version: str, sha256: str, *, replace: bool
) -> None:
    """Raises NameCollision or VersionExists, before any file is moved."""
    package = await package_named(tx, name)
    row = package and await store.version_of(tx, package.id, version)
    if package and row and row.zip_sha256 != sha256 and not replace:
        raise VersionExists(package=package.name, version=version, version_id=row.id)


async def record(
    tx: AsyncSession,
    *,
    name: str,
    version: str,
    file_name: str,
    received: Received,
    inspection: Inspection,
    by: Principal,
    now: datetime,
    audit: AuditTrail,
) -> Uploaded:
    """The version's new content; nothing where it has these bytes already."""
    package = await package_named(tx, name) or _new_package(tx, name, now)
    await tx.flush()
    row = await store.version_of(tx, package.id, version)
    if row is not None and row.zip_sha256 == received.sha256:
        return Uploaded(store.to_version(row, package.name), "unchanged")
    _describe(package, inspection.manifest.package)
    created = row is None
    if row is None:
        row = VersionRow(
            id=new_id("version"),
            package_id=package.id,
            version=version,
            revision=0,
            description="",
            created_at=now,
        )
        tx.add(row)
    _set_content(row, file_name, received, inspection)
    row.created_by, row.updated_at = by.name, now
    package.updated_at = now
    await tx.flush()
    tx.add(
        RevisionRow(
            version_id=row.id,
            number=row.revision,
            zip_sha256=row.zip_sha256,
            size_bytes=row.size_bytes,
            file_name=row.file_name,
            created_by=by.name,
            created_at=now,
        )
    )
    facts = {"package": package.name, "version": version, "sha256": received.sha256}
    verb = "upload_package" if created else "replace_package"
    await audit.record(tx, by, verb, row.id, facts)
    return Uploaded(store.to_version(row, package.name), "created" if created else "replaced")


def _new_package(tx: AsyncSession, name: str, now: datetime) -> PackageRow:
    package = PackageRow(
        id=new_id("package"),
        name=names.label(name),
        original_name=name,
        title_ko="",
        title_en="",
        description="",
        author="",
        classes=[],
        edited=[],
        revision=1,
        created_at=now,
        updated_at=now,
    )
    tx.add(package)
    return package


def _describe(package: PackageRow, about: About) -> None:
    """Take up what the newest manifest says, except what a person has set."""
    for key in _ABOUT:
        value: Any = getattr(about, key)
        if value and key not in package.edited and getattr(package, key) != value:
            setattr(package, key, value)
            package.revision += 1


def _set_content(
    row: VersionRow, file_name: str, received: Received, inspection: Inspection
) -> None:
    row.revision += 1
    row.zip_sha256 = received.sha256
    row.size_bytes = received.size_bytes
    row.unpacked_bytes = inspection.unpacked_bytes
    row.file_name = file_name
    row.manifest = inspection.manifest.as_json()
    row.has_manifest = inspection.has_manifest
    row.dockerfile = inspection.dockerfile.as_json()
    row.layout = inspection.layout.as_json()
    row.notes = [{"code": note.code, "data": note.data} for note in inspection.notes]
