"""`haechi package`: from a folder on a developer's machine to a version on the server."""

import tempfile
from pathlib import Path
from typing import Any, Final

import click

from haechi.cli.client import Api, pass_api
from haechi.cli.lookup import given, id_of
from haechi.errors import Language

COLUMNS: Final = ["id", "name", "title_ko", "latest_version", "version_count", "updated_at"]
VERSION_COLUMNS: Final = [
    "id",
    "version",
    "revision",
    "size_bytes",
    "build_state",
    "platforms",
    "created_by",
    "created_at",
]
_Source = click.Path(exists=True, path_type=Path)
_ZipFile = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def package() -> None:
    """Make, check, upload and manage AI packages."""


# --- on this machine


@package.command("init")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--name", help="The package's name [default: the folder's].")
@pass_api
def init_package(api: Api, folder: Path, name: str | None) -> None:
    """Write a starter: Dockerfile, main.py with the SDK beside it, haechi.toml."""
    from haechi.cli import packing
    from haechi.domains.packages import names

    with api.refusals():
        label = names.label(names.original(name or folder.resolve().name))
        files = packing.init(folder, label)
    api.show([{"file": str(file)} for file in files], ["file"])


@package.command("check")
@click.argument("source", type=_Source)
@click.option("--version", help="Also check that this can be a version.")
@pass_api
def check_package(api: Api, source: Path, version: str | None) -> None:
    """Look through a zip or folder exactly as the server would. Needs no server."""
    from haechi.cli import packing
    from haechi.domains.packages.notes import text_of

    language: Language = "ko" if api.language == "ko" else "en"
    with tempfile.TemporaryDirectory(prefix="haechi-check-") as scratch, api.refusals():
        found = packing.look(packing.zip_of(source, Path(scratch)), version=version)
    shown = {
        "context": found.layout.context or "/",
        "dockerfile": found.layout.dockerfile,
        "manifest": found.layout.manifest,
        "name": found.manifest.package.name or None,
        "files": found.files,
        "unpacked_bytes": found.unpacked_bytes,
        "images": [image.reference for image in found.dockerfile.images],
        "notes": [text_of(note, language) for note in found.notes],
    }
    api.show(shown)
    api.say("문제가 없습니다.", "No problems.")


@package.command("pack")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--output", "-o", type=click.Path(dir_okay=False, path_type=Path))
@pass_api
def pack_package(api: Api, folder: Path, output: Path | None) -> None:
    """Zip a folder; the same files give the same bytes."""
    from haechi.cli import packing

    target = output or Path(f"{folder.resolve().name}.zip")
    count = packing.pack(folder, target)
    api.show({"file": str(target), "files": count, "size_bytes": target.stat().st_size})


@package.command("build")
@click.argument("source", type=_Source)
@click.option("--tag", help="Name of the image [default: <package>:local].")
@click.option(
    "--socket", default="/var/run/docker.sock", show_default=True, help="The Docker Engine's."
)
@pass_api
def build_package(api: Api, source: Path, tag: str | None, socket: str) -> None:
    """Build a zip or folder with this machine's Docker, to try it before pushing it."""
    from haechi.cli import packing
    from haechi.domains.packages import names

    with tempfile.TemporaryDirectory(prefix="haechi-build-") as scratch, api.refusals():
        zip_path = packing.zip_of(source, Path(scratch))
        image_tag = tag or f"{names.label(zip_path.stem)}:local"
        image_id = packing.build(zip_path, tag=image_tag, socket=socket)
    api.show({"image": image_tag, "id": image_id})


# --- to the server


def _upload(api: Api, zip_path: Path, **params: Any) -> Any:
    return api.upload("/packages/upload", zip_path, filename=zip_path.name, **params)


@package.command("upload")
@click.argument(
    "zip_path", metavar="ZIP", type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option("--version", required=True, help="Becomes the image's tag, unchanged.")
@click.option("--name", help="Package name [default: haechi.toml's, else the file's].")
@click.option("--replace", is_flag=True, help="Edit this version; its old content is kept.")
@pass_api
def upload_package(api: Api, zip_path: Path, version: str, name: str | None, replace: bool) -> None:
    """Upload a zip as a version."""
    api.show(_upload(api, zip_path, version=version, name=name, replace=replace))


@package.command("push")
@click.argument("source", type=_Source)
@click.option("--version", required=True, help="Becomes the image's tag, unchanged.")
@click.option("--name", help="Package name [default: haechi.toml's, else the folder's].")
@click.option("--replace", is_flag=True, help="Edit this version; its old content is kept.")
@click.option("--build", is_flag=True, help="Build it on the server and follow that.")
@pass_api
def push_package(
    api: Api, source: Path, version: str, name: str | None, replace: bool, build: bool
) -> None:
    """Check, zip and upload a folder (or zip) in one go."""
    from haechi.cli import packing

    with tempfile.TemporaryDirectory(prefix="haechi-push-") as scratch:
        with api.refusals():
            zip_path = packing.zip_of(source, Path(scratch))
            packing.look(zip_path, version=version)
        taken = _upload(api, zip_path, version=version, name=name, replace=replace)
    if build:
        path = f"/packages/{taken['package_id']}/versions/{taken['version']}"
        begun = api.post(f"{path}/build")
        api.follow_operation(begun["operation_id"])
        taken = api.get(path)
    api.show(taken)


@package.command("list")
@pass_api
def list_packages(api: Api) -> None:
    """List packages by name."""
    api.show(api.get_all("/packages"), COLUMNS)


@package.command("show")
@click.argument("package_ref", metavar="PACKAGE")
@click.argument("version", required=False)
@pass_api
def show_package(api: Api, package_ref: str, version: str | None) -> None:
    """Show a package, or one of its versions. PACKAGE is an id or a name."""
    path = f"/packages/{id_of(api, '/packages', package_ref)}"
    api.show(api.get(path if version is None else f"{path}/versions/{version}"))


@package.command("versions")
@click.argument("package_ref", metavar="PACKAGE")
@click.option("--of", "version", help="The history of this version's content instead.")
@pass_api
def list_versions(api: Api, package_ref: str, version: str | None) -> None:
    """List a package's versions, newest first."""
    path = f"/packages/{id_of(api, '/packages', package_ref)}/versions"
    if version is None:
        api.show(api.get_all(path), VERSION_COLUMNS)
    else:
        api.show(api.get(f"{path}/{version}/revisions"))


@package.command("edit")
@click.argument("package_ref", metavar="PACKAGE")
@click.option("--title-ko")
@click.option("--title-en")
@click.option("--description")
@click.option("--author")
@click.option("--class", "classes", multiple=True, help="What it names; may be repeated.")
@pass_api
def edit_package(api: Api, /, package_ref: str, **options: Any) -> None:
    """Change what is said of a package; later uploads leave that alone."""
    body = given(options)
    if "classes" in body:
        body["classes"] = list(body["classes"])
    api.show(api.edit(f"/packages/{id_of(api, '/packages', package_ref)}", body))


@package.command("download")
@click.argument("package_ref", metavar="PACKAGE")
@click.argument("version")
@click.option("--revision", type=click.IntRange(1), help="An older content of that version.")
@click.option("--output", "-o", type=click.Path(dir_okay=False, path_type=Path))
@pass_api
def download_version(
    api: Api, package_ref: str, version: str, revision: int | None, output: Path | None
) -> None:
    """Get a version's zip back."""
    target = output or Path(f"{package_ref}-{version}.zip")
    path = f"/packages/{id_of(api, '/packages', package_ref)}/versions/{version}/zip"
    part = target.with_name(target.name + ".part")
    try:
        with (
            api.stream("GET", path, params=given({"revision": revision})) as answer,
            part.open("wb") as out,
        ):
            for piece in answer.iter_bytes():
                out.write(piece)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    api.show({"file": str(target), "size_bytes": target.stat().st_size})


@package.command("delete")
@click.argument("package_ref", metavar="PACKAGE")
@click.argument("version", required=False)
@click.option("--force", is_flag=True, help="Even if it is deployed.")
@pass_api
def delete_package(api: Api, package_ref: str, version: str | None, force: bool) -> None:
    """Delete one version, or the package with all of them."""
    path = f"/packages/{id_of(api, '/packages', package_ref)}"
    api.delete(path if version is None else f"{path}/versions/{version}", force=force)
    api.say("삭제했습니다.", "Deleted.")
