"""Pin every dependency of a bundle's programs: write go.mod and go.sum beside `versions/*.toml`.

  python tools/bundle_modules.py 1.36            all builds of that version
  python tools/bundle_modules.py 1.36 flannel    one of them

Run it after changing `modules` in the version file; needs Go and the way to its module proxy.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

BUNDLE = Path(__file__).parents[1] / "src" / "haechi" / "domains" / "clusters" / "bundle"


def go(folder: Path, *argv: str) -> str:
    environment = {**os.environ, "GOFLAGS": "-mod=mod", "CGO_ENABLED": "0"}
    done = subprocess.run(
        ["go", *argv],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=1800,
    )
    return done.stdout


def staging(folder: Path, module: str, version: str) -> list[str]:
    """Kubernetes takes its libraries from its own tree; outside they are modules of their own."""
    text = go(folder, "mod", "download", "-json", module)
    listed = Path(re.search(r'"GoMod": "([^"]+)"', text)[1]).read_text()  # type: ignore[index]
    names = re.findall(r"^\s*(k8s\.io/\S+) => \./staging", listed, re.MULTILINE)
    return [f"replace {name} => {name} {version}" for name in names]


def pin(build: dict[str, Any], target: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="haechi-modules-") as scratch:
        folder = Path(scratch)
        lines = [f"module haechi.internal/{build['name']}", "go 1.26"]
        lines += [f"require {module}" for module in build["modules"]]
        (folder / "go.mod").write_text("\n".join(lines) + "\n")
        if "staging" in build:
            module = build["modules"][0].replace(" ", "@")
            lines += staging(folder, module, build["staging"])
        (folder / "go.mod").write_text("\n".join(lines) + "\n")
        if "own_main" in build:
            own_main(folder, build)
        else:
            imports = "\n".join(f'\t_ "{package}"' for package in build["programs"].values())
            (folder / "tools.go").write_text(
                f"//go:build tools\n\npackage tools\n\nimport (\n{imports}\n)\n"
            )
        go(folder, "mod", "tidy", "-e")
        target.mkdir(parents=True, exist_ok=True)
        for name in ("go.mod", "go.sum"):
            (target / name).write_bytes((folder / name).read_bytes())


def own_main(folder: Path, build: dict[str, Any]) -> None:
    """The module's main package without some of its imports, as the bundle builds it."""
    sys.path.insert(0, str(BUNDLE.parents[3]))
    from haechi.adapters.bundle_go import copy_main

    text = go(folder, "mod", "download", "-json", build["modules"][0].replace(" ", "@"))
    source = Path(re.search(r'"Dir": "([^"]+)"', text)[1])  # type: ignore[index]
    copy_main(source, folder, build["without"])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("minor")
    parser.add_argument("builds", nargs="*")
    arguments = parser.parse_args()
    versions = BUNDLE / "versions"
    document = tomllib.loads((versions / f"{arguments.minor}.toml").read_text())
    for build in document["build"]:
        if "modules" in build and build["name"] in (arguments.builds or [build["name"]]):
            print(build["name"], flush=True)
            pin(build, versions / arguments.minor / build["name"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
