"""What a Dockerfile of a build becomes, and that everything it starts from is there.

The Dockerfile is rewritten by the operator's base-image map and given the site's package index and
CA; each image it then names is had at the builder before building, so that a missing one is said
by name and line. Knows nothing of operations.
"""

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from haechi.domains.builds.dockerfile import Rewritten, rewrite
from haechi.domains.builds.model import BaseImageMissing, BaseUse, HeredocsUnsupported
from haechi.domains.builds.ports import (
    Builder,
    Context,
    Login,
    OnText,
    Plan,
    RegistryNames,
    VersionToBuild,
)
from haechi.domains.builds.site_files import SiteFiles, site_files, with_site_files
from haechi.errors import AppError, DiskFull, Unavailable
from haechi.settings import BuildsSettings

PULL_LIMIT_S: Final = 1800.0


@dataclass(frozen=True, slots=True)
class Resolved:
    text: str
    """The Dockerfile as it is built."""
    bases: list[BaseUse]
    recipe: str


class Resolver:
    def __init__(
        self,
        *,
        names: RegistryNames,
        push_login: Callable[[], Login | None],
        settings: Callable[[], BuildsSettings],
    ) -> None:
        self._names = names
        self._push_login = push_login
        self._settings = settings

    async def resolve(
        self,
        version: VersionToBuild,
        platform: str,
        context: Context,
        *,
        builder: Builder,
        base_map: Mapping[str, str],
        scratch: Path,
        log: OnText,
    ) -> Resolved:
        """Raises BadDockerfile, HeredocsUnsupported, BaseImageMissing, DiskFull, Unavailable."""
        rewritten = await self._rewrite(builder, context, base_map, platform, log)
        bases = [await self._ensure_base(builder, use, log) for use in rewritten.bases]
        files = await self._site_files()
        if files.files:
            await self._ensure_site_files(builder, files, scratch)
        text = with_site_files(rewritten.text, files)
        recipe = _recipe(version, platform, context.dockerfile, text, bases)
        return Resolved(text, bases, recipe)

    async def _rewrite(
        self,
        builder: Builder,
        context: Context,
        base_map: Mapping[str, str],
        platform: str,
        log: OnText,
    ) -> Rewritten:
        engine = await builder.engine()
        raw = await asyncio.to_thread((context.context_dir / context.dockerfile).read_bytes)
        rewritten = rewrite(
            _decoded(raw),
            base_map=base_map,
            build_platform=engine.platform,
            target_platform=platform,
        )
        if rewritten.syntax:
            log(f"left out '# syntax={rewritten.syntax}': nothing is fetched from outside")
        if rewritten.heredocs and not engine.heredocs:
            raise HeredocsUnsupported(engine=engine.version)
        return rewritten

    async def _ensure_base(self, builder: Builder, use: BaseUse, log: OnText) -> BaseUse:
        mapped = f" (mapped from {use.source})" if use.used != use.source else ""
        log(f"base image {use.used}{mapped}, {use.platform}")
        ours = (f"{self._names.pull}/", f"{self._names.push}/")
        login = self._push_login() if use.used.startswith(ours) else None
        try:
            async with asyncio.timeout(PULL_LIMIT_S):
                image_id = await builder.ensure_image(use.used, use.platform, login, log)
        except DiskFull:
            raise
        except (AppError, TimeoutError) as error:
            # An Engine that cannot be reached says so at the next step as well; a registry of the
            # outside that cannot be reached is the ordinary case of a closed site.
            if isinstance(error, Unavailable) and "registry" not in error.code:
                raise
            raise BaseImageMissing(
                image=use.used,
                source=use.source,
                platform=use.platform,
                line=use.line,
                reason=str(error.data.get("message", "")) if isinstance(error, AppError) else "",
            ) from error
        return replace(use, image_id=image_id)

    async def _site_files(self) -> SiteFiles:
        settings = self._settings()
        ca_pem = b""
        if settings.ca_file is not None:
            ca_pem = await asyncio.to_thread(settings.ca_file.read_bytes)
        return site_files(pip_index_url=settings.pip_index_url, ca_pem=ca_pem)

    async def _ensure_site_files(self, builder: Builder, files: SiteFiles, scratch: Path) -> None:
        folder = scratch / "site-files"
        folder.mkdir(exist_ok=True)
        for name, content in files.files.items():
            (folder / name).write_bytes(content)
        engine = await builder.engine()
        plan = Plan(folder, "Dockerfile", files.dockerfile, engine.platform, files.image)
        await builder.build(plan, lambda _: None, lambda _ratio, _text: None)


def _recipe(
    version: VersionToBuild,
    platform: str,
    dockerfile: str,
    text: str,
    bases: list[BaseUse],
) -> str:
    parts = [version.zip_digest, platform, dockerfile, text]
    parts += [json.dumps(asdict(replace(use, line=0)), sort_keys=True) for use in bases]
    return "sha256:" + hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _decoded(raw: bytes) -> str:
    """UTF-8, or the Korean Windows code page of old editors."""
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("cp949", "replace")
