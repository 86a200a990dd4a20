"""REST face of the Ansible inventory and the exported playbooks."""

from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Response

from haechi.core.access import Role, requires
from haechi.domains.playbooks.service import Playbooks
from haechi.rest import Caller, Out

Ref = Annotated[str, Query(min_length=1, max_length=128)]


class RegistryLoginOut(Out):
    user: str
    password: str
    """Shown this once; good for pulling only."""


def router(playbooks: Playbooks) -> APIRouter:
    api = APIRouter(tags=["playbooks"])

    @api.get("/inventory/ansible")
    @requires(Role.OPERATOR)
    async def get_ansible_inventory() -> dict[str, Any]:
        """The site in Ansible's inventory JSON, without passwords and keys."""
        return await playbooks.inventory()

    @api.get(
        "/playbooks",
        response_class=Response,
        responses={200: {"content": {"application/zip": {}}}},
    )
    @requires(Role.OPERATOR)
    async def export_playbook(package: Ref, version: Ref, group: Ref, by: Caller) -> Response:
        """Playbooks that deploy, remove and roll back this version on a group's Docker hosts."""
        name, content = await playbooks.export_playbook(package, version, group, by=by)
        disposition = f"attachment; filename*=UTF-8''{quote(name)}"
        headers = {"Content-Disposition": disposition, "Cache-Control": "no-store"}
        return Response(content, media_type="application/zip", headers=headers)

    @api.post("/playbooks/registry-login", status_code=201)
    @requires(Role.OPERATOR)
    async def create_registry_login(by: Caller, response: Response) -> RegistryLoginOut:
        """A login of the site registry for playbooks, made anew: an earlier one ends."""
        response.headers["Cache-Control"] = "no-store"
        login = await playbooks.new_registry_login(by=by)
        return RegistryLoginOut(user=login.user, password=login.password.reveal())

    return api
