"""Named sites from the command line; they stay until `down`.

python -m lab up NAME [--hosts 3] [--image bare|docker] [--internet] [--cpus 1] [--memory 2g]
python -m lab ls
python -m lab ssh NAME HOST [COMMAND…]
python -m lab down NAME
python -m lab clean          everything of the lab on this machine, running tests' hosts too
python -m lab clean --images and the images and seeds that hosts start from
python -m lab images         build the host images
"""

import argparse
import asyncio
import json
import os
import shutil
import sys
from pathlib import Path

from lab import engine, images, names
from lab.engine import LabError
from lab.site import Site

KINDS = {"bare": images.bare, "docker": images.docker}


def _folder(name: str) -> Path:
    return engine.root() / "sites" / names.valid(name)


async def up(options: argparse.Namespace) -> None:
    if any(t.owner == names.KEPT and t.site == options.name for t in await engine.things()):
        raise LabError(f"site {options.name} is up already: `python -m lab ls`")
    folder = _folder(options.name)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    site = Site(options.name, internet=options.internet, owner=names.KEPT)
    try:
        await site.up(folder)
        hosts = await site.add(
            options.hosts,
            image=KINDS[options.image](),
            cpus=options.cpus,
            memory=options.memory,
        )
    except BaseException:
        await asyncio.shield(site.down())
        raise
    known = {
        "gateway": site.gateway,
        "password": site.password,
        "hosts": {host.name: host.address for host in hosts},
    }
    (folder / "site.json").write_text(json.dumps(known, indent=2) + "\n")
    (folder / "site.json").chmod(0o600)
    for host in hosts:
        print(f"{host.name}  {host.address}  key of robot: {site.key_file}")
    print(f"user keeper, password in {folder / 'site.json'}; this machine is {site.gateway}")


async def ls(_options: argparse.Namespace) -> None:
    for thing in sorted(await engine.things(), key=lambda t: (t.owner, t.site, t.kind, t.host)):
        if thing.kind != "fence":
            print(f"{thing.owner:18} {thing.site:12} {thing.host or '(network)':12} {thing.state}")


async def down(options: argparse.Namespace) -> None:
    site = Site(options.name, owner=names.KEPT)
    await site.down()
    shutil.rmtree(_folder(options.name), ignore_errors=True)


async def clean(options: argparse.Namespace) -> None:
    gone = await engine.things()
    await engine.remove(gone)
    shutil.rmtree(engine.root() / "sites", ignore_errors=True)
    print(f"removed {sum(thing.kind == 'host' for thing in gone)} hosts")
    if options.images:
        await engine.podman("image", "rm", "--all", "--force", timeout_s=300)
        shutil.rmtree(engine.root() / "seeds", ignore_errors=True)
        print("removed the images that hosts start from; the next site makes them anew")


async def build(_options: argparse.Namespace) -> None:
    await images.build()


def ssh(options: argparse.Namespace) -> None:
    folder = _folder(options.name)
    if not (folder / "site.json").exists():
        raise LabError(f"there is no site {options.name}: `python -m lab ls`")
    hosts = json.loads((folder / "site.json").read_text())["hosts"]
    if options.host not in hosts:
        raise LabError(f"site {options.name} has no host {options.host}; it has {', '.join(hosts)}")
    # Throw-away hosts get their addresses again with other keys, so none is remembered.
    argv = ["ssh", "-i", str(folder / "key"), "-o", "StrictHostKeyChecking=no"]
    argv += ["-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
    os.execvp("ssh", [*argv, f"robot@{hosts[options.host]}", *options.command])


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m lab",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    starting = verbs.add_parser("up")
    starting.add_argument("name")
    starting.add_argument("--hosts", type=int, default=1)
    starting.add_argument("--image", choices=KINDS, default="bare")
    starting.add_argument("--internet", action="store_true")
    starting.add_argument("--cpus", type=float)
    starting.add_argument("--memory")
    verbs.add_parser("down").add_argument("name")
    entering = verbs.add_parser("ssh")
    entering.add_argument("name")
    entering.add_argument("host")
    entering.add_argument("command", nargs=argparse.REMAINDER)
    verbs.add_parser("clean").add_argument("--images", action="store_true")
    for name in ("ls", "images"):
        verbs.add_parser(name)
    options = parser.parse_args()
    try:
        if options.verb == "ssh":
            ssh(options)
        calls = {"up": up, "ls": ls, "down": down, "clean": clean, "images": build}
        asyncio.run(calls[options.verb](options))
    except (LabError, ValueError) as e:
        print(e, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
