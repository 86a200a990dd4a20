"""`haechi playbook`: Ansible playbooks of a package version."""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
import yaml

from haechi.cli.client import Api, pass_api

_UNFENCED: Final = (
    (
        "플레이북은 haechi처럼 AI의 접속을 막지 않습니다. -e haechi_network=open(막지 않음) 또는 "
        "-e haechi_network=internal(호스트에만 접속, 결과가 서버에 오지 않음)로 실행하세요."
    ),
    (
        "A playbook lays no fence as haechi does: run deploy.yml with -e haechi_network=open "
        "(unfenced) or -e haechi_network=internal (its host alone; no results to the server)."
    ),
)


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
    for korean, english in asked(yaml.safe_load((folder / "package.yml").read_text("utf-8"))):
        api.say(korean, english)


def asked(about: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What deploy.yml needs to be told, in Korean and English."""
    if about["haechi_internet"]:
        yield (
            "패키지가 인터넷을 요청합니다. 허용하려면 -e haechi_network=open으로 실행하세요.",
            "The package asks for the internet: -e haechi_network=open allows it.",
        )
    else:
        yield _UNFENCED
    if about["haechi_camera"] != "none":
        yield (
            "패키지가 카메라를 씁니다. 호스트마다 haechi_camera_url 변수를 지정하세요.",
            "The package watches a camera: give each host its variable haechi_camera_url.",
        )


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
