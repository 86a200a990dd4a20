"""What a bundle says of its licences: one table of components, one file with every text.

Debian packages carry their own copyright files, in `host/` and in the images.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from haechi.domains.clusters.bundle.ports import LICENCES_NAME
from haechi.domains.clusters.bundle.recipe import Recipe

_HEAD: Final = """\
# Licences

Programs and images of this bundle are built from the sources below, unchanged but for what is said
of flannel: its backends `udp` and `tencentvpc` are left out. Every module that went into them is
named with its full licence text in `go-modules.txt`. The Debian packages in `host/`, and those
inside the images of kube-proxy and flannel, hold theirs in `/usr/share/doc/PACKAGE/copyright`;
their sources are in Debian's archive.

| component | version | programs | licence |
|---|---|---|---|
"""


def digest_of(*said: str) -> str:
    return hashlib.sha256("\0".join(said).encode()).hexdigest()


def texts(recipe: Recipe, builds: Iterable[Path]) -> dict[str, str]:
    """File name → content. `builds` are the folders that the compiler filled."""
    rows = [
        f"| {build.name} | {recipe.versions.get(build.name, '-')} | "
        f"{', '.join(sorted(build.programs))} | {build.licence} |"
        for build in recipe.builds
    ]
    modules: dict[str, list[str]] = {}
    for folder in builds:
        for entry in json.loads((folder / LICENCES_NAME).read_text()):
            name = f"{entry['module']} {entry['version']}".strip()
            modules[name] = entry["texts"]
    return {"README.md": _HEAD + "\n".join(rows) + "\n", "go-modules.txt": _by_text(modules)}


def _by_text(modules: dict[str, list[str]]) -> str:
    """Each text once, under the modules that it covers."""
    shared: dict[str, list[str]] = {}
    for name, found in sorted(modules.items()):
        shared.setdefault("\n".join(found).strip(), []).append(name)
    blocks = [_block(names, text) for text, names in shared.items()]
    return "\n\n".join(blocks) + "\n"


def _block(names: Sequence[str], text: str) -> str:
    line = "=" * 78
    return "\n".join([line, *names, line, "", text or "(no licence file in the module)"])
