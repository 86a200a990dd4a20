"""The images that hosts start from, built once and kept under a key of all that went into them.

`bare`: Debian with systemd, sshd, two users that may use sudo, Python; nothing of Kubernetes, no
container runtime, no iptables. `docker`: the same with Debian's Docker.
"""

import asyncio
import fcntl
import hashlib
import os
import shlex
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from lab import engine
from lab.engine import LabError

SUITE = "bookworm"
RECIPE = Path(__file__).with_name("image")
BARE = (
    *("systemd", "systemd-sysv", "dbus", "libpam-systemd", "openssh-server", "sudo", "kmod"),
    *("iproute2", "iputils-ping", "procps", "ca-certificates", "python3"),
)
DOCKER = ["docker.io", "iptables"]
LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")
REPOSITORY = "localhost/haechi-lab"
WAIT_S = 1800  # for another process that makes them
Say = Callable[[str], None]
_seen: set[str] = set()


def bare() -> str:
    """The reference of the bare image; it changes with whatever the image is made of."""
    parts = [SUITE, *BARE, *LEFT_OUT]
    parts += [f"{file.name}:{file.read_text()}" for file in sorted(RECIPE.iterdir())]
    return _reference("bare", *parts)


def docker() -> str:
    return _reference("docker", bare(), *DOCKER)


def _reference(name: str, *parts: str) -> str:
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    return f"{REPOSITORY}/{name}:{digest[:12]}"


async def there(reference: str) -> bool:
    said = await engine.podman("image", "exists", reference, check=False)
    return said.status == 0


async def need(reference: str) -> None:
    """Make the lab's own where they are missing. Asked of podman once for each host's image."""
    if reference in _seen:
        return
    if await there(reference):
        _seen.add(reference)
    else:
        await build()


async def build(say: Say = print) -> None:
    """Make the images that are missing. One process at a time; the others wait for it."""
    if await there(bare()) and await there(docker()):
        return
    async with alone():
        if not await there(bare()):
            say(f"host image bare: {len(BARE)} packages and what they need …")
            await _build_bare()
        if not await there(docker()):
            say("host image docker: bare, and Debian's Docker …")
            await _build_docker()


@asynccontextmanager
async def alone() -> AsyncIterator[None]:
    """One process at a time makes images; the lock goes with the process that holds it."""
    engine.environment()
    with (engine.root() / ".images.lock").open("w") as handle:
        async with asyncio.timeout(WAIT_S):
            while not _taken(handle.fileno()):
                await asyncio.sleep(0.2)
        yield


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def _build_bare() -> None:
    if shutil.which("mmdebstrap") is None:
        raise LabError("the lab needs mmdebstrap: python3 tools/setup.py --with lab")
    finish = shlex.join(["sh", str(RECIPE / "finish.sh"), "$1", str(RECIPE)]).replace(
        "'$1'", '"$1"'
    )
    with tempfile.TemporaryDirectory(dir=engine.root()) as scratch:
        archive = Path(scratch) / "root.tar"
        argv: list[str | Path] = [
            "mmdebstrap",
            "--quiet",
            "--variant=minbase",
            f"--include={','.join(BARE)}",
            *[f"--aptopt={line}" for line in await _apt_proxies()],
            *[f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT],
            f"--customize-hook={finish}",
            '--customize-hook=rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*',
            SUITE,
            archive,
        ]
        await engine.run(argv, timeout_s=900)
        await engine.podman(
            "import", "--change", 'CMD ["/sbin/init"]', archive, bare(), timeout_s=300
        )


async def _build_docker() -> None:
    """Debian's Docker installed into bare; its conffiles are new, so nothing is asked."""
    install = (
        "apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -yq"
        f" --no-install-recommends {' '.join(DOCKER)}"
        " && rm -rf /var/lib/apt/lists/* /var/cache/apt/*"
    )
    name = f"haechi-lab-image-{os.getpid()}"
    proxies = "".join(f"{line}\n" for line in await _apt_proxies())
    try:
        await engine.podman(
            *("create", "--name", name, "--network", "host", bare(), "sh", "-ec"),
            f"printf %s {shlex.quote(proxies)} > /etc/apt/apt.conf.d/99lab; {install};"
            " rm /etc/apt/apt.conf.d/99lab",
        )
        await engine.podman("start", "--attach", name, timeout_s=900)
        await engine.podman(
            *("commit", "--quiet", "--change", 'CMD ["/sbin/init"]', name, docker()), timeout_s=300
        )
    finally:
        await engine.podman("rm", "--force", "--ignore", name, check=False)


async def _apt_proxies() -> list[str]:
    """The proxy that this machine's own apt uses, if any."""
    dump = await engine.run(["apt-config", "dump"], check=False)
    wanted = ("acquire::http::proxy ", "acquire::https::proxy ")
    return [line for line in dump.out.splitlines() if line.lower().startswith(wanted)]
