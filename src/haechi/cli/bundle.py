"""`haechi bundle`: offline bundles on this machine; needs no server."""

import asyncio
import platform as machine
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from haechi.cli.client import Api, pass_api
from haechi.domains.clusters.bundle import carrying, recipe
from haechi.domains.clusters.bundle.model import Bundle, Role, name_of
from haechi.domains.clusters.bundle.shelf import Shelf
from haechi.domains.clusters.bundle.verify import verify

if TYPE_CHECKING:
    from haechi.settings import BundleSettings

COLUMNS: Final = ["name", "kubernetes", "platform", "size_bytes", "state", "folder"]
_PLATFORMS: Final = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}
_Place = click.Path(path_type=Path)
_config = click.option(
    "--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="TOML file."
)


@click.group()
def bundle() -> None:
    """Make, check and carry offline bundles: all that a bare host needs to join a cluster."""


def _settings(config: Path | None) -> "BundleSettings":
    from haechi import settings

    return settings.load(file=config).settings.bundle


def own_platform() -> str:
    return _PLATFORMS.get(machine.machine(), "linux/amd64")


def _found(place: Path | None, config: Path | None) -> Bundle:
    """By folder, by name under `bundle.folder`, or this machine's newest."""
    parent = _settings(config).folder.expanduser()
    if place is None:
        return Bundle.open(parent / name_of(recipe.load().kubernetes, own_platform()))
    return Bundle.open(place if place.exists() or len(place.parts) > 1 else parent / place)


def _described(found: Bundle) -> dict[str, Any]:

    roles: tuple[Role, ...] = ("worker", "control-plane")
    return {
        "name": found.name,
        "folder": str(found.folder),
        "kubernetes": found.kubernetes,
        "platform": found.platform,
        "digest": found.digest,
        "size_bytes": found.size_bytes,
        **{
            f"{role.replace('-', '_')}_bytes": sum(
                part.size_bytes for part in found.files_for(role) if part.kind != "licence"
            )
            for role in roles
        },
        "versions": dict(found.versions),
        "host": f"{found.host.id} {found.host.version} ({found.host.suite})",
    }


@dataclass
class _Shown:
    """Steps on the error stream; what the tools say only where it is asked for."""

    quiet: bool
    verbose: bool

    def step(self, name: str, number: int, count: int) -> None:
        if not self.quiet:
            click.echo(f"[{number}/{count}] {name}", err=True)

    def line(self, text: str) -> None:
        if self.verbose:
            click.echo(f"    {text}", err=True)


async def _create(
    found: recipe.Recipe,
    platform: str,
    target: Path,
    settings: "BundleSettings",
    *,
    again: bool,
    shown: _Shown,
) -> Bundle:
    from haechi.adapters.bundle_debian import DebianMirror
    from haechi.adapters.bundle_go import GoCompiler
    from haechi.domains.clusters.bundle.create import Maker

    task = asyncio.current_task()
    assert task is not None
    # Ended from outside, it must end the compilers too, which run in groups of their own.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    cache = settings.cache.expanduser()
    logs = cache / "bundle-logs"
    maker = Maker(
        compiler=GoCompiler(cache=cache / "go", logs=logs),
        distribution=DebianMirror(logs=logs, mirror=settings.debian_mirror),
        cache=cache,
        progress=shown,
        again=again,
    )
    return await maker.create(found, platform, target)


@bundle.command("create")
@click.option("--kubernetes", default="", help="1.36, 1.36.3 … [default: the newest known].")
@click.option("--platform", help="linux/amd64 or linux/arm64 [default: this machine's].")
@click.option(
    "--output", "-o", type=_Place, help="Its folder [default: under the setting bundle.folder]."
)
@click.option("--again", is_flag=True, help="Take the distribution's newest packages anew.")
@click.option("--verbose", "-v", is_flag=True, help="Show what the tools say.")
@_config
@pass_api
def create_bundle(
    api: Api,
    kubernetes: str,
    platform: str | None,
    output: Path | None,
    again: bool,
    verbose: bool,
    config: Path | None,
) -> None:
    """Make a bundle, or take the one that is there. Needs Go, mmdebstrap and the internet.

    May be ended and started again: what is done is not done twice.
    """
    with api.refusals():
        settings = _settings(config)
        found = recipe.load(kubernetes)
        wanted = platform or own_platform()
        recipe.known(wanted)
        target = output or settings.folder.expanduser() / name_of(found.kubernetes, wanted)
        shown = _Shown(quiet=api.json_output, verbose=verbose)
        try:
            made = asyncio.run(
                _create(found, wanted, target.absolute(), settings, again=again, shown=shown)
            )
        except asyncio.CancelledError as error:
            raise click.Abort from error
    api.show(_described(made))


@bundle.command("verify")
@click.argument("place", type=_Place, required=False)
@click.option("--quick", is_flag=True, help="Names and sizes only.")
@_config
@pass_api
def verify_bundle(api: Api, place: Path | None, quick: bool, config: Path | None) -> None:
    """Check every file, program, image and package of a bundle; tells all problems at once.

    PLACE: a folder, or a name as `haechi bundle list` shows it.
    """
    with api.refusals():
        found = _found(place, config)
        verify(found, quick=quick)
    api.show({"name": found.name, "folder": str(found.folder), "files": len(found.parts)})
    api.say("문제가 없습니다.", "No problems.")


@bundle.command("show")
@click.argument("place", type=_Place, required=False)
@_config
@pass_api
def show_bundle(api: Api, place: Path | None, config: Path | None) -> None:
    """Show a bundle's versions, sizes by role, images and files."""
    with api.refusals():
        found = _found(place, config)
    images = [
        {"reference": image.reference, "role": image.role, "digest": image.digest}
        for image in found.images
    ]
    files = [
        {
            "path": part.path,
            "kind": part.kind,
            "role": part.role,
            "size_bytes": part.size_bytes,
            "sha256": part.sha256,
        }
        for part in found.parts
    ]
    if api.json_output:
        api.show({**_described(found), "images": images, "files": files})
        return
    api.show(_described(found))
    api.show(images, ["reference", "role", "digest"])
    api.show(
        [file for file in files if file["kind"] in {"program", "plugin", "images"}],
        ["path", "role", "size_bytes"],
    )


@bundle.command("list")
@_config
@pass_api
def list_bundles(api: Api, config: Path | None) -> None:
    """List the bundles under the setting `bundle.folder`."""
    with api.refusals():
        shelf = Shelf(_settings(config).folder.expanduser())
    rows = []
    for one in shelf.all():
        state = one.fault.code.removeprefix("bundle.") if one.fault else "complete"
        described = _described(one.bundle) if one.bundle else {"name": one.folder.name}
        rows.append({**described, "state": state, "folder": str(one.folder)})
    api.show(rows, COLUMNS)


@bundle.command("pack")
@click.argument("place", type=_Place, required=False)
@click.option("--output", "-o", type=_Place, help="The tar file [default: NAME.tar here].")
@_config
@pass_api
def pack_bundle(api: Api, place: Path | None, output: Path | None, config: Path | None) -> None:
    """Write a bundle as one tar file, to carry it to a site without internet."""
    with api.refusals():
        found = _found(place, config)
        target = output or Path(f"{found.name}.tar")
        carrying.pack(found, target)
    api.show({"file": str(target), "size_bytes": target.stat().st_size})


@bundle.command("unpack")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--output", "-o", type=_Place, help="Folder to unpack into [default: bundle.folder].")
@_config
@pass_api
def unpack_bundle(api: Api, file: Path, output: Path | None, config: Path | None) -> None:
    """Unpack a carried bundle and verify all of it before it is put in place."""
    with api.refusals():
        parent = output or _settings(config).folder.expanduser()
        found = carrying.unpack(file, parent)
    api.show(_described(found))
