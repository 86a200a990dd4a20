"""Which Kubernetes can be installed: what the bundles on the shelf hold, or, where hosts install
from the internet, what this haechi was tested with. The port `Releases`.
"""

import asyncio
from collections.abc import Collection

from haechi.domains.clusters.bundle import recipe as recipes
from haechi.domains.clusters.bundle.errors import BundleVersionUnknown
from haechi.domains.clusters.bundle.recipe import image_name
from haechi.domains.clusters.bundle.shelf import Shelf, fits, version_key
from haechi.domains.clusters.errors import NoBundle
from haechi.domains.clusters.model import FormOptions


class ShelfReleases:
    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    async def resolve(self, options: FormOptions, platforms: Collection[str]) -> str:
        wanted = options.kubernetes_version or ""
        if options.source == "distribution":
            known = await asyncio.to_thread(_tested)
        else:
            known = await asyncio.to_thread(self._on_shelf, set(platforms))
        fitting = [version for version in known if fits(version, wanted)]
        if not fitting:
            raise NoBundle(version=wanted or "-", platform=", ".join(sorted(platforms)))
        return max(fitting, key=version_key)

    async def image(self, version: str, name: str) -> str:
        """Raises NoBundle where neither a bundle nor this haechi knows that version's images."""
        for reference in await asyncio.to_thread(self._references, version):
            if image_name(reference) == name:
                return reference
        raise NoBundle(version=version, platform=name)

    def _on_shelf(self, platforms: set[str]) -> list[str]:
        """Versions that are there for every one of the platforms."""
        there: dict[str, set[str]] = {}
        for bundle in self._shelf.bundles():
            there.setdefault(bundle.kubernetes, set()).add(bundle.platform)
        return [version for version, found in there.items() if found >= platforms]

    def _references(self, version: str) -> list[str]:
        found: list[str] = []
        for bundle in self._shelf.bundles():
            if bundle.kubernetes == version and not found:
                found = [image.reference for image in bundle.images]
        try:
            recipe = recipes.load(version)
        except BundleVersionUnknown:
            return found
        return [*(found or recipe.references), recipe.cni_plugin]


def _tested() -> list[str]:
    return [recipes.load(minor).kubernetes for minor in recipes.minors()]
