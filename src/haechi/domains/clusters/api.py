"""REST face of clusters."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import PlainTextResponse

from haechi.core.access import Role, requires
from haechi.domains.clusters.service import Clusters
from haechi.domains.clusters.shapes import (
    AddIn,
    CheckIn,
    CheckOut,
    ClusterOut,
    EditIn,
    FormedOut,
    FormIn,
    PlanOut,
    ProofOut,
)
from haechi.rest import (
    AcceptedOut,
    Caller,
    Lang,
    PageOut,
    PageQuery,
    accepted,
    check_etag,
    etag_of,
)


def router(clusters: Clusters) -> APIRouter:
    api = APIRouter(tags=["clusters"])
    _before(api, clusters)
    _clusters(api, clusters)
    _nodes(api, clusters)
    return api


def _before(api: APIRouter, clusters: Clusters) -> None:
    @api.post("/clusters/check")
    @requires(Role.OPERATOR)
    async def check_cluster(body: CheckIn, lang: Lang) -> CheckOut:
        """Look at all hosts at once and tell everything that hinders, with remedies. Changes
        nothing on them.
        """
        checked = await clusters.check_cluster(
            body.control_plane_ids, body.worker_ids, body.options.options()
        )
        return CheckOut.of(checked, lang)

    @api.post("/clusters/plan")
    @requires(Role.OPERATOR)
    async def plan_cluster(body: FormIn, lang: Lang) -> PlanOut:
        """What forming would do, step by step. Nobody is asked, nothing is done."""
        plan = await clusters.plan_cluster(
            body.name, body.control_plane_ids, body.worker_ids, body.options.options()
        )
        return PlanOut.of(plan, lang)


def _clusters(api: APIRouter, clusters: Clusters) -> None:
    book = clusters.book

    @api.post("/clusters", status_code=202)
    @requires(Role.OPERATOR)
    async def form_cluster(body: FormIn, by: Caller, response: Response) -> FormedOut:
        """Form a Kubernetes cluster of devices over SSH. The same again while it is being formed
        joins the operation. Its result tells each host's outcome.
        """
        formed = await clusters.form_cluster(
            body.name,
            body.control_plane_ids,
            body.worker_ids,
            body.options.options(),
            by=by,
        )
        accepted(response, formed.operation)
        return FormedOut(operation_id=formed.operation.id, cluster_id=formed.cluster.id)

    @api.get("/clusters")
    @requires(Role.VIEWER)
    async def list_clusters(
        page: Annotated[PageQuery, Depends()],
        name: Annotated[str | None, Query(max_length=128)] = None,
        include_gone: bool = False,
    ) -> PageOut[ClusterOut]:
        """Newest first; with `include_gone` the deleted and failed ones too."""
        found = await book.find(
            name=name, include_gone=include_gone, limit=page.limit, cursor=page.cursor
        )
        return PageOut(
            items=[ClusterOut.of(one) for one in found.items], next_cursor=found.next_cursor
        )

    @api.get("/clusters/{cluster_id}")
    @requires(Role.VIEWER)
    async def get_cluster(cluster_id: str, response: Response) -> ClusterOut:
        view = await book.get(cluster_id)
        response.headers["ETag"] = etag_of(view.cluster.id, view.cluster.revision)
        return ClusterOut.of(view)

    @api.patch("/clusters/{cluster_id}")
    @requires(Role.OPERATOR)
    async def edit_cluster(
        cluster_id: str, body: EditIn, request: Request, response: Response, by: Caller
    ) -> ClusterOut:
        """Rename it."""
        known = (await book.get(cluster_id)).cluster
        check_etag(request, etag_of(known.id, known.revision))
        await clusters.edit_cluster(cluster_id, name=body.name, by=by, revision=known.revision)
        return await get_cluster(cluster_id, response)

    @api.delete("/clusters/{cluster_id}", status_code=202)
    @requires(Role.OPERATOR)
    async def delete_cluster(cluster_id: str, by: Caller, response: Response) -> AcceptedOut:
        """Workers first, control planes last, everything it left removed. A host that is away is
        cleaned when it is seen again.
        """
        return accepted(response, await clusters.delete_cluster(cluster_id, by=by))

    @api.get("/clusters/{cluster_id}/proof")
    @requires(Role.VIEWER)
    async def get_cluster_proof(cluster_id: str) -> ProofOut:
        """Each host as recorded before forming against as it was after cleaning."""
        return ProofOut.of(await book.proof(cluster_id))

    @api.get("/clusters/{cluster_id}/kubeconfig", response_class=PlainTextResponse)
    @requires(Role.ADMIN)
    async def get_kubeconfig(cluster_id: str, by: Caller) -> PlainTextResponse:
        """The cluster administrator's, for kubectl: it may do anything there."""
        found = await book.kubeconfig(cluster_id, by=by)
        return PlainTextResponse(
            found.reveal(),
            media_type="application/yaml",
            headers={"Cache-Control": "no-store"},
        )


def _nodes(api: APIRouter, clusters: Clusters) -> None:
    @api.post("/clusters/{cluster_id}/nodes", status_code=202)
    @requires(Role.OPERATOR)
    async def add_node(cluster_id: str, body: AddIn, by: Caller, response: Response) -> AcceptedOut:
        """Devices join as workers, or as further control planes. `accept` and `clean_leftovers` are
        of these hosts; of what was accepted at forming only what is merely tolerated counts here.
        """
        operation = await clusters.add_node(
            cluster_id, body.device_ids, role=body.role, consent=body.consent(), by=by
        )
        return accepted(response, operation)

    @api.post("/clusters/{cluster_id}/nodes/check")
    @requires(Role.OPERATOR)
    async def check_nodes(cluster_id: str, body: AddIn, lang: Lang) -> CheckOut:
        """Look at hosts that are to join this cluster, replace a node of it or take it over, and
        tell everything that hinders, with remedies. Changes nothing on them.
        """
        checked = await clusters.check_nodes(
            cluster_id, body.device_ids, role=body.role, consent=body.consent()
        )
        return CheckOut.of(checked, lang)

    @api.delete("/clusters/{cluster_id}/nodes/{device_id}", status_code=202)
    @requires(Role.OPERATOR)
    async def remove_node(
        cluster_id: str, device_id: str, by: Caller, response: Response
    ) -> AcceptedOut:
        """Drain, delete and clean one. A host that is away is cleaned when it is seen again."""
        return accepted(response, await clusters.remove_node(cluster_id, device_id, by=by))
