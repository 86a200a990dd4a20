"""The packages domain as the `Versions` port of builds."""

from pathlib import Path

from haechi.domains.builds.ports import Context, VersionToBuild
from haechi.domains.packages.service import Packages


class PackageVersions:
    def __init__(self, packages: Packages) -> None:
        self._packages = packages

    async def version_to_build(self, version_id: str) -> VersionToBuild:
        version = await self._packages.version(version_id)
        return VersionToBuild(
            id=version.id,
            package_id=version.package_id,
            package_name=version.package_name,
            version=version.version,
            zip_digest=f"sha256:{version.zip_sha256}",
        )

    async def extract_context(self, version_id: str, target: Path) -> Context:
        unpacked = await self._packages.extract_context(version_id, target)
        dockerfile = unpacked.dockerfile.relative_to(unpacked.context)
        return Context(context_dir=unpacked.context, dockerfile=str(dockerfile))
