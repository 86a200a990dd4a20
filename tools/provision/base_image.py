"""A Python base image made from the distribution's packages, for sites without a public registry.

It stands in for `python:3.11-slim` where an operator maps it so. It knows nothing of this machine's
package index or certificates: builds get those as arguments.
"""

from provision import cache, docker
from provision.process import as_root, run, succeeds

SUITE = "bookworm"
PACKAGES = "python3,python3-pip,ca-certificates,libstdc++6"  # wheels in C++ link to the last
LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")
PROBE = "python -c 'import ssl, sqlite3' && pip --version"
SETTINGS = (
    "ENV PIP_BREAK_SYSTEM_PACKAGES=1 PIP_ROOT_USER_ACTION=ignore PYTHONUNBUFFERED=1 LANG=C.UTF-8",
    'CMD ["python3"]',
    f"LABEL haechi.revision={cache.BASE_IMAGE_REVISION}",
)


def ready(options: frozenset[str]) -> bool:
    return docker.ready(options) and docker.has_image(cache.BASE_IMAGE, cache.BASE_IMAGE_REVISION)


def prepare(_options: frozenset[str]) -> str:
    with cache.filling(cache.root() / "base-image" / cache.BASE_IMAGE_REVISION) as scratch:
        archive = scratch / "root.tar"
        run(
            as_root(
                [
                    "mmdebstrap",
                    "--quiet",
                    "--variant=essential",
                    f"--include={PACKAGES}",
                    *_apt_proxies(),
                    *(f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT),
                    '--customize-hook=ln -s python3 "$1/usr/bin/python"',
                    '--customize-hook=rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*',
                    SUITE,
                    archive,
                ]
            ),
            limit_s=600,
            remedy="Check that this machine reaches its Debian mirror, then run it again.",
        )
        changes = [word for line in SETTINGS for word in ("--change", line)]
        run(
            ["docker", "import", *changes, archive, cache.BASE_IMAGE],
            limit_s=120,
            remedy="`docker info` says whether the daemon is well; is the disk full?",
        )
        size_mb = archive.stat().st_size // 1_000_000
        archive.unlink()
    run(
        ["docker", "run", "--rm", "--network", "none", cache.BASE_IMAGE, "sh", "-c", PROBE],
        limit_s=60,
        remedy=f"Remove the image with `docker rmi {cache.BASE_IMAGE}` and run it again.",
    )
    return f"{cache.BASE_IMAGE}, {size_mb} MB"


def _apt_proxies() -> list[str]:
    """The proxy that this machine's own apt uses, if any."""
    if not succeeds(["apt-config", "dump"]):
        return []
    settings = run(["apt-config", "dump"], limit_s=10, remedy="").splitlines()
    return [
        f"--aptopt={line.rstrip(';')}"
        for line in settings
        if line.lower().startswith(("acquire::http::proxy ", "acquire::https::proxy "))
    ]
