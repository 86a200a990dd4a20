"""Deployments as results use them: whose a row is, also long after the deployment has gone."""

from haechi.domains.deployments.book import Book
from haechi.domains.results.model import Source


class DeploymentSources:
    def __init__(self, book: Book) -> None:
        self._book = book

    async def source_of(self, deployment_id: str, device_id: str) -> Source | None:
        known = await self._book.known(deployment_id, device_id)
        if known is None:
            return None
        return Source(
            device_id=known.device_id,
            deployment_id=known.id,
            package_id=known.package_id,
            package_name=known.package_name,
            version_id=known.version_id,
            version=known.version,
            image_digest=known.image_digest,
        )
