"""The operation `store_base_image`: a mapped base image is pushed before any build needs it.

Pushing a base image's layers takes longer than building most packages. Once they lie in the
registry, the engine mounts them from there into each package's repository. It also tells the
operator at once where the builder does not have what he mapped to.
"""

import hashlib
from collections.abc import Callable
from typing import Final

from haechi.core.operations import Definition, Operation, Operations, Run, Step, Temporary
from haechi.domains.builds.model import BaseTargetMissing
from haechi.domains.builds.ports import Builders, Login, RegistryNames
from haechi.errors import Busy, DiskFull, NotFound, Text, Unavailable, Upstream

KIND: Final = "store_base_image"
REPOSITORY: Final = "haechi/base"
"""No package's: their names have no slash."""
RETRY_S: Final = 3.0


def tag_of(target: str) -> str:
    return hashlib.sha256(target.encode()).hexdigest()[:24]


class BaseStore:
    def __init__(
        self,
        *,
        operations: Operations,
        builders: Builders,
        names: RegistryNames,
        push_login: Callable[[], Login | None],
    ) -> None:
        self._operations = operations
        self._builders = builders
        self._names = names
        self._push_login = push_login
        operations.register(
            Definition(
                kind=KIND,
                title=Text("기본 이미지 저장", "Store a base image"),
                parallel=1,
                steps=[
                    Step(
                        "push",
                        Text("레지스트리에 저장", "Push to the site registry"),
                        self._push,
                        timeout_s=7200,
                    )
                ],
            )
        )

    async def store(self, target: str, *, requested_by: str) -> Operation | None:
        """None where it is being stored already."""
        subject = f"base:{tag_of(target)}"
        try:
            return await self._operations.start(
                KIND, subject, {"target": target}, requested_by=requested_by
            )
        except Busy:
            return None

    async def _push(self, run: Run) -> None:
        target = str(run.ctx["target"])
        ours = (f"{self._names.pull}/", f"{self._names.push}/")
        if target.startswith(ours):
            return
        reference = f"{self._names.push}/{REPOSITORY}:{tag_of(target)}"
        try:
            builder = await self._builders.for_platform("")
            platform = (await builder.engine()).platform
            image = await self._had(run, target, platform)
            digest = await builder.push(image, reference, self._push_login(), run.progress)
        except Unavailable as error:
            raise Temporary(RETRY_S, error) from error
        run.ctx["result"] = {"digest": digest}
        run.log(f"stored {target} as {digest}")

    async def _had(self, run: Run, target: str, platform: str) -> str:
        builder = await self._builders.for_platform("")
        try:
            return await builder.ensure_image(target, platform, None, run.log)
        except DiskFull:
            raise
        except (NotFound, Upstream, Unavailable) as error:
            if isinstance(error, Unavailable) and "registry" not in error.code:
                raise
            raise BaseTargetMissing(
                target=target, platform=platform, reason=str(error.data.get("message", ""))
            ) from error
