"""Hosts that start where a long preparation has ended: made once by really doing it on a bare host.

The root is committed as an image. The disks that hold container images are volumes, which no image
has; they are kept as seeds and each new host gets them by hard links: what containerd and Docker
have stored is never written to again, only its databases are, and those are copied.
"""

import hashlib
import shutil
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab import engine, images
from lab.host import Host
from lab.site import Site

KEPT_DISKS = ("/var/lib/containerd",)
KEEP = 4
# A prepared host is nobody yet: it gets its identity, users' secrets and journal anew.
ANONYMOUS = """\
: > /etc/machine-id
rm -f /etc/ssh/ssh_host_* /home/robot/.ssh/authorized_keys
passwd -q --lock keeper
journalctl --rotate -q; journalctl --vacuum-time=1s -q
rm -rf /var/log/journal/*
"""


@dataclass(frozen=True)
class Prepared:
    """What `Site.host(image=…, seeds=…)` takes."""

    image: str
    seeds: dict[str, Path]

    async def add(self, site: Site, count: int, **settings: object) -> list[Host]:
        return await site.add(count, image=self.image, seeds=self.seeds, **settings)


async def prepared(
    name: str,
    made_of: Sequence[str],
    prepare: Callable[[Site, Host], Awaitable[object]],
    *,
    base: str | None = None,
) -> Prepared:
    """Hosts on which `prepare` has been done; `made_of` is all that its outcome depends on.

    The first caller of a key does it, others wait. `prepare` gets a host of `base` (default bare)
    on a site of its own, and leaves it running.
    """
    base = base or images.bare()
    digest = hashlib.sha256("\0".join([base, name, *made_of]).encode()).hexdigest()[:12]
    reference = f"{images.REPOSITORY}/{name}:{digest}"
    folder = engine.root() / "seeds" / f"{name}-{digest}"
    done = Prepared(reference, {path: folder / Path(path).name for path in KEPT_DISKS})
    if not await images.there(base):
        await images.build()  # before the lock, which it takes too
    async with images.alone():
        if not (await images.there(reference) and folder.is_dir()):
            await _make(done, folder, base, prepare)
    return done


async def _make(
    done: Prepared, folder: Path, base: str, prepare: Callable[[Site, Host], Awaitable[object]]
) -> None:
    scratch = folder.with_name(f".{folder.name}")
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    scratch.mkdir(parents=True)
    async with Site() as site:
        host = await site.host("prepared", image=base)
        await prepare(site, host)
        await host.shell(ANONYMOUS)
        await host.stop()
        for path, seed in done.seeds.items():
            # The host goes away; what its disk holds moves, on the same file system.
            (await host.disk(path)).rename(scratch / seed.name)
        await engine.podman(
            *("commit", "--quiet", "--change", 'CMD ["/sbin/init"]'),
            *(host.container, done.image),
            timeout_s=600,
        )
    scratch.rename(folder)
    await _prune(done.image.rpartition(":")[0])


async def _prune(repository: str) -> None:
    """Of each kind the newest few stay: while code changes, a new one comes with every change."""
    listed = await engine.podman(
        *("image", "ls", "--sort", "created", "--format", "{{.Repository}}:{{.Tag}}", repository)
    )
    for reference in listed.out.split()[KEEP:]:
        name, _, digest = reference.rpartition(":")
        # One that a host runs on stays, and so does its seed.
        if (await engine.podman("image", "rm", reference, check=False)).status == 0:
            seed = engine.root() / "seeds" / f"{name.rpartition('/')[2]}-{digest}"
            shutil.rmtree(seed, ignore_errors=True)
