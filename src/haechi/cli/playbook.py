"""`haechi playbook`: Ansible playbooks of a package version."""

import io
import zipfile
from pathlib import Path

import click

from haechi.cli.client import Api, pass_api


@click.group()
def playbook() -> None:
    """Hand a package version over to Ansible."""


@playbook.command("export")
@click.argument("package")
@click.argument("version")
@click.argument("group")
@click.option(
    *("--output", "-o"),
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder, made where it is not there. [default: PACKAGE-VERSION]",
)
@pass_api
def export_playbook(api: Api, package: str, version: str, group: str, output: Path | None) -> None:
    """Write deploy.yml, remove.yml and rollback.yml for VERSION of PACKAGE on a GROUP's hosts."""
    params = {"package": package, "version": version, "group": group}
    content = api.request("GET", "/playbooks", params=params).content
    folder = output or Path(f"{package}-{version}")
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        archive.extractall(folder)
        names = archive.namelist()
    (folder / "inventory.sh").chmod(0o755)  # zipfile leaves modes out
    if api.json_output:
        api.show({"folder": str(folder), "files": names})
        return
    api.say(f"{folder}에 저장했습니다.", f"Written to {folder}.")


@playbook.command("login")
@pass_api
def create_login(api: Api) -> None:
    """Make a login of the site registry for playbooks; shown once, and an earlier one ends."""
    login = api.post("/playbooks/registry-login")
    if api.json_output:
        api.show(login)
        return
    click.echo(f"export HAECHI_REGISTRY_USER={login['user']}")
    click.echo(f"export HAECHI_REGISTRY_PASSWORD={login['password']}")
