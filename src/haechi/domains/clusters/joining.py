"""One host becomes a node: the first control plane, further ones, workers.

Each act looks first at what an interrupted try left: a host whose marker says `joined` is a node
already; anything less is reset and begun anew.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final

from haechi.core.clock import to_text
from haechi.core.secrets import Secret
from haechi.domains.clusters import etcd, journal, kubeadm, kubeconfig, marker, proxy, tokens
from haechi.domains.clusters.context import KUBECONFIG, Context
from haechi.domains.clusters.errors import HostStepFailed, KubeUnreachable
from haechi.domains.clusters.host.errors import CommandFailed, CommandTimedOut
from haechi.domains.clusters.host.ports import Shell
from haechi.domains.clusters.marker import Marker
from haechi.domains.clusters.model import Cluster, Member
from haechi.domains.clusters.ports import Kube
from haechi.errors import AppError

OnText = Callable[[str], None]
_TOKEN_LIFE = timedelta(hours=1)
_WITHDRAW_S: Final = 15.0
_CERTIFICATES: Final = "kubeadm-certs"
_TOKEN: Final = tokens.named_secret(tokens.token_name(tokens.JOINING))


@dataclass(frozen=True, slots=True)
class Invitation:
    """What a host needs to join. For control planes with the key to the certificates."""

    token: Secret
    ca_data: str
    certificate_key: Secret | None = None


class Joining:
    def __init__(self, context: Context) -> None:
        self._c = context

    # --- the first control plane

    async def initialise(
        self,
        cluster: Cluster,
        member: Member,
        log: OnText,
        *,
        before: Callable[[Shell], Awaitable[None]] | None = None,
    ) -> None:
        """`kubeadm init` on it, once; `before` lays out what it is to find on the clean host."""
        c = self._c

        async def act(shell: Shell) -> None:
            await proxy.install_proxy(shell, cluster.id, [member.address])
            if await self._is_node(shell, member):
                log("it is the cluster's control plane already")
                return
            await self._begin_anew(shell, member, log)
            if before is not None:
                await before(shell)
            documents = kubeadm.init_documents(
                cluster.id,
                member,
                cluster.options,
                version=cluster.kubernetes_version,
                token=tokens.new_token(),
            )
            await self._run(shell, "initialise", kubeadm.init_argv(), documents, log)
            await marker.write(shell, member, joined=True)

        await c.on_host(member.device_id, act, log=log)

    async def take_kubeconfig(self, cluster: Cluster, member: Member, log: OnText) -> None:
        """Keep it encrypted, and give it to the host's user."""
        c = self._c

        async def act(shell: Shell) -> None:
            named = kubeconfig.renamed(await kubeconfig.read_admin(shell), cluster.id)
            await c.keep_secret(cluster.id, KUBECONFIG, named)
            user = await kubeconfig.give_to_user(shell, named)
            log(f"kubeconfig is at {user.home}/.kube/config of {user.name}")

        await c.on_host(member.device_id, act, log=log)

    async def api_answers(self, cluster_id: str) -> None:
        """Wait for it. Raises KubeUnreachable where it does not within `api_s`."""
        c = self._c
        last: AppError | None = None

        async def ask() -> str | None:
            nonlocal last
            try:
                async with c.kube(cluster_id) as kube:
                    return await kube.version()
            except AppError as error:  # one that has just started refuses all for a moment
                last = error
                return None

        if await c.until(ask, c.pace.api_s) is None:
            raise last or KubeUnreachable(cluster_id=cluster_id, reason="no answer")

    # --- the others

    @asynccontextmanager
    async def invited(self, cluster: Cluster, log: OnText) -> AsyncIterator[Invitation]:
        """A fresh token, for as long as hosts join by it, however that ends."""
        c = self._c
        token = tokens.new_token(tokens.JOINING)
        expires_at = to_text(c.clock.now() + _TOKEN_LIFE)
        try:
            async with c.kube(cluster.id) as kube:
                # One that is still going would take what is applied along.
                await kube.delete([_TOKEN])
                await kube.apply([tokens.token_secret(token, expires_at)])
            yield Invitation(token, kubeconfig.ca_data((await c.access(cluster.id)).kubeconfig))
        finally:
            await self.withdraw(cluster, log)

    async def with_certificates(
        self,
        cluster: Cluster,
        invitation: Invitation,
        control_planes: Sequence[Member],
        log: Callable[[Member], OnText],
    ) -> Invitation:
        """For a further control plane: the first of `control_planes` that can offers its own."""
        key = tokens.new_certificate_key()

        async def upload(sponsor: Member, shell: Shell) -> None:
            documents = kubeadm.upload_documents(
                cluster.id,
                sponsor,
                cluster.options,
                version=cluster.kubernetes_version,
                certificate_key=key,
            )
            # kubeadm prints the key that it was given: not into a log.
            await kubeadm.run(shell, kubeadm.upload_argv(), documents, log=_nothing)

        await self._c.by_first(control_planes, upload, log=log)
        return replace(invitation, certificate_key=key)

    async def withdraw(self, cluster: Cluster, log: OnText) -> None:
        """Nobody joins by it any more. Where the API is away it ends by itself in two hours."""
        try:
            async with asyncio.timeout(_WITHDRAW_S), self._c.kube(cluster.id) as kube:
                await kube.delete([_TOKEN, *await _offered(kube)], wait_s=0)
        except (AppError, TimeoutError) as error:
            log(f"-- what hosts join by could not be withdrawn, it ends by itself: {error}")

    async def join(
        self,
        cluster: Cluster,
        member: Member,
        invitation: Invitation,
        control_planes: Sequence[Member],
        log: OnText,
    ) -> None:
        """`control_planes`: those that live; a new one is not among them."""
        c = self._c
        addresses = [one.address for one in control_planes]

        async def act(shell: Shell) -> None:
            await proxy.install_proxy(shell, cluster.id, addresses)
            if await self._is_node(shell, member):
                log("it is a node of this cluster already")
                return
            if await self._begin_anew(shell, member, log):
                await self._forget_node(cluster, member, log)
            if member.is_control_plane:
                await self._forget_half_joined(member, control_planes, log)
            document = kubeadm.join_document(
                member,
                cluster.options,
                token=invitation.token,
                certificate_key=invitation.certificate_key,
            )
            discovery = kubeadm.discovery_document(cluster.id, invitation.ca_data)
            await self._run(
                shell, "join", kubeadm.join_argv(), [document], log, discovery=discovery
            )
            await marker.write(shell, member, joined=True)

        await c.on_host(member.device_id, act, log=log)

    async def lead_to(
        self,
        cluster: Cluster,
        members: Sequence[Member],
        control_planes: Sequence[Member],
        log: Callable[[Member], OnText],
    ) -> None:
        """Tell the proxies of `members` which control planes there are. One that is away takes it
        up when it is back (`watching`).
        """
        c = self._c
        addresses = [one.address for one in control_planes]

        async def tell(member: Member) -> None:
            async def act(shell: Shell) -> None:
                await proxy.install_proxy(shell, cluster.id, addresses)

            await c.on_host(member.device_id, act, log=log(member), away_s=0)

        await c.on_each(
            members, tell, failed=lambda member, error: log(member)(f"proxy not told: {error}")
        )

    # --- acts on the host

    async def _is_node(self, shell: Shell, member: Member) -> bool:
        return await marker.read(shell) == Marker(
            cluster_id=member.cluster_id,
            device_id=member.device_id,
            role=member.role,
            node_name=member.node_name,
            joined=True,
        )

    async def _begin_anew(self, shell: Shell, member: Member, log: OnText) -> bool:
        """Where kubeadm was at work here before, its half-done work goes first: whether it was."""
        was_begun = await marker.read(shell) is not None
        if was_begun:
            log("an interrupted try is taken back first")
            await kubeadm.reset(shell, log=log)
        await marker.write(shell, member, joined=False)
        return was_begun

    async def _forget_node(self, cluster: Cluster, member: Member, log: OnText) -> None:
        """The kubelet of an interrupted try may have registered: kubeadm lets nobody have the name
        of a node that is Ready, and this one is called so for most of a minute yet.
        """
        await self.api_answers(cluster.id)
        async with self._c.kube(cluster.id) as kube:
            node = await kube.node(member.node_name)
            if node is not None and node.device_id == member.device_id:
                await kube.delete_node(member.node_name)
                log("took its half-joined node out")

    async def _forget_half_joined(
        self, member: Member, control_planes: Sequence[Member], log: OnText
    ) -> None:
        """An etcd member of an interrupted try would count for the majority and never come."""

        async def act(_other: Member, shell: Shell) -> None:
            if await etcd.forget_member(shell, name=member.node_name, address=member.address):
                log("took its half-joined etcd out")

        await self._c.by_first(control_planes, act, log=lambda _other: log)

    async def _run(
        self,
        shell: Shell,
        step: str,
        argv: list[str],
        documents: list[dict[str, object]],
        log: OnText,
        *,
        discovery: dict[str, object] | None = None,
    ) -> None:
        try:
            await kubeadm.run(shell, argv, documents, log=log, discovery=discovery)
        except (CommandFailed, CommandTimedOut) as error:
            told = await journal.explained(shell, step, error, log)
            if isinstance(told, HostStepFailed):
                raise told from error
            raise


async def _offered(kube: Kube) -> list[dict[str, Any]]:
    """The certificates that kubeadm laid down, and the token that it lets them end with."""
    found = await kube.get("v1", "Secret", _CERTIFICATES, tokens.NAMESPACE)
    if found is None:
        return []
    owners = found["metadata"].get("ownerReferences") or []
    return [tokens.named_secret(name) for name in (*(one["name"] for one in owners), _CERTIFICATES)]


def _nothing(line: str) -> None:
    del line
