"""A registry on a site's network, as a LAN has one: plain HTTP, Debian's docker-registry."""

import asyncio
import re
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from lab import engine
from lab.engine import LabError
from lab.site import Site

LISTENING = re.compile(rb"listening on [^\s\"]*:(\d+)")
CONFIG = """\
version: 0.1
storage: {{filesystem: {{rootdirectory: {folder}}}, delete: {{enabled: true}}}}
http: {{addr: "{address}:{port}"}}
"""


@dataclass
class Registry:
    """`name` is HOST:PORT as hosts of the site write it in an image's reference."""

    address: str
    port: int

    @property
    def name(self) -> str:
        return f"{self.address}:{self.port}"

    async def put(self, image: str, name: str) -> str:
        """Push an image of the lab's own storage (`lab.images`) as `name:tag`; its reference."""
        reference = f"{self.name}/{name}"
        await engine.podman(
            *("push", "--quiet", "--tls-verify=false", image, f"docker://{reference}"),
            timeout_s=600,
        )
        return reference


@asynccontextmanager
async def registry(site: Site, *, port: int = 0) -> AsyncIterator[Registry]:
    """Serve one at the site's gateway. A given `port` lets it be away and come back."""
    binary = shutil.which("docker-registry")
    if binary is None:
        raise LabError("the lab's registry needs the package docker-registry: tools/setup.py")
    with tempfile.TemporaryDirectory(prefix="haechi-lab-registry-") as folder:
        config, log = Path(folder) / "config.yml", Path(folder) / "log"
        config.write_text(CONFIG.format(folder=folder, address=site.gateway, port=port))
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *(binary, "serve", str(config)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            yield Registry(site.gateway, await _listening(process, log))
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def _listening(process: asyncio.subprocess.Process, log: Path) -> int:
    async with asyncio.timeout(60):
        while (match := LISTENING.search(log.read_bytes())) is None:
            if process.returncode is not None:
                said = log.read_text(errors="replace")[-1000:]
                raise LabError(f"docker-registry does not start: {said}")
            await asyncio.sleep(0.05)
    return int(match[1])
