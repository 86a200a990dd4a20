"""The operation `renew_certificates`: control planes one after the other, so that with three the
API is never away; kubelets that did not renew theirs are started again, which makes them.

What has ended already is another matter: such a kubelet can ask nobody for another one and is
given it, and control planes whose members of etcd trust each other no more get theirs all at once.

Long before the end (`clusters.renew_before_days`) the daily duty starts it (`duties.py`).
"""

from collections.abc import Callable
from typing import Any, Final

from haechi.core.clock import to_text
from haechi.core.operations import Definition, Run, Step
from haechi.core.secrets import Secret
from haechi.domains.clusters import certificates, etcd, kubeadm, static_pods, tokens
from haechi.domains.clusters.board import Board
from haechi.domains.clusters.certificates import NodeCertificate
from haechi.domains.clusters.context import Context
from haechi.domains.clusters.etcd_errors import EtcdFailed
from haechi.domains.clusters.host.ports import Shell
from haechi.domains.clusters.joining import Joining
from haechi.domains.clusters.model import Member, MemberState
from haechi.domains.clusters.upkeep_errors import CertificatesNotRenewed
from haechi.errors import AppError, Text

KIND: Final = "renew_certificates"
RESTART_ORDER: Final = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")


class Renewing:
    def __init__(
        self, context: Context, joining: Joining, before_days: Callable[[], float]
    ) -> None:
        self._c = context
        self._joining = joining
        self._before_days = before_days

    def definition(self) -> Definition:
        return Definition(
            kind=KIND,
            title=Text("인증서 갱신", "Renew certificates"),
            parallel=4,
            steps=[
                Step("look", Text("만료일 확인", "Look when they end"), self.look),
                Step(
                    "revive",
                    Text("만료된 제어 노드 되살리기", "Revive control planes whose have ended"),
                    self.revive,
                    timeout_s=1800,
                ),
                Step(
                    "renew",
                    Text("제어 노드 인증서 갱신", "Renew those of the control planes"),
                    self.renew,
                    self.release,
                    timeout_s=3600,
                ),
                Step("kubelets", Text("kubelet 확인", "See to the kubelets"), self.kubelets),
                Step("prove", Text("확인", "Look again"), self.prove),
            ],
        )

    # --- looking, for others too

    async def look_at(self, cluster_id: str) -> tuple[list[NodeCertificate], dict[str, AppError]]:
        """All certificates of all nodes that can be reached, and why others could not be."""
        c = self._c
        found: list[NodeCertificate] = []
        failures: dict[str, AppError] = {}

        async def look(member: Member) -> None:
            async def act(shell: Shell) -> None:
                mine: list[NodeCertificate] = []
                if member.is_control_plane:
                    mine += await certificates.look_at_control_plane(
                        shell, member.device_id, member.node_name
                    )
                mine += await certificates.look_at_kubelet(
                    shell, member.device_id, member.node_name
                )
                found.extend(mine)

            await c.on_host(member.device_id, act, log=_nothing, away_s=0)

        def failed(member: Member, error: AppError) -> None:
            failures[member.device_id] = error

        await c.on_each(await self._ready(cluster_id), look, failed=failed)
        return sorted(found, key=lambda one: (one.ends_at, one.node_name, one.name)), failures

    # --- steps

    async def look(self, run: Run) -> None:
        c = self._c
        found, failures = await self.look_at(run.subject)
        due = certificates.due(found, c.clock.now(), self._before_days())
        for one in due:
            run.log(f"[{one.node_name}] {one.name} ends {to_text(one.ends_at)}")
        for member in await self._ready(run.subject):
            if member.device_id in failures:
                run.log(f"[{member.node_name}] not reached: {failures[member.device_id]}")
        wanted = found if run.ctx["all"] else due
        run.ctx["devices"] = sorted({one.device_id for one in wanted if not _is_kubelets(one)})
        ended = [one for one in due if one.has_ended(c.clock.now())]
        run.ctx["ended"] = sorted({one.device_id for one in ended if not _is_kubelets(one)})
        run.ctx["locked_out"] = sorted({one.device_id for one in ended if _is_kubelets(one)})

    async def revive(self, run: Run) -> None:
        """All of them before any is restarted: alone none would find a majority of etcd. Then their
        kubelets, which start nothing while they may not log in.
        """
        board = Board(run)
        members = await self._control_planes(run.subject)
        for member in members:
            if member.device_id in run.ctx.get("ended", ()):
                await board.stage(member, "renewing", 0.0)
                await self._c.on_host(member.device_id, _renew_files, log=board.log(member))
        for member in members:
            if member.device_id in run.ctx.get("locked_out", ()):
                await self._let_in(run, member, [member])

    async def renew(self, run: Run) -> None:
        """Each control plane wholly, and back in peace, before the next."""
        board = Board(run)
        cluster = await self._c.cluster(run.subject)
        done: list[str] = run.ctx.setdefault("renewed", [])
        members = await self._control_planes(run.subject)
        for place, member in enumerate(members):
            if member.device_id not in run.ctx["devices"] or member.device_id in done:
                continue
            log = board.log(member)
            await board.stage(member, "renewing", place / len(members))

            had_ended = member.device_id in run.ctx.get("ended", ())
            await self._c.on_host(
                member.device_id, self._anew if had_ended else self._one_by_one, log=log
            )
            # Before the API is asked: the one kept here may have ended.
            await self._joining.take_kubeconfig(cluster, member, log)
            await self._joining.api_answers(run.subject)
            done.append(member.device_id)
            await board.stage(member, "renewed")

    async def release(self, run: Run) -> None:
        """Nothing stays held back where this is cut off."""
        board = Board(run)
        for member in await self._control_planes(run.subject):
            if member.device_id in run.ctx.get("ended", ()):
                await self._c.on_host(
                    member.device_id, static_pods.release, log=board.log(member), away_s=0
                )

    async def _one_by_one(self, shell: Shell) -> None:
        await _renew_files(shell)
        # Of an earlier try, whose host went away in the middle.
        await static_pods.release(shell)
        for name in RESTART_ORDER:
            await static_pods.restart(shell, name)
            if name == "etcd":
                await self._peace(shell)

    async def _anew(self, shell: Shell) -> None:
        """All at once: where certificates had ended, its pods end again and again, and the kubelet
        waits longer and longer before it starts them; pods that come to it anew it starts at once.
        """
        await _renew_files(shell)
        await static_pods.hold(shell)
        await static_pods.release(shell)
        await self._peace(shell)

    async def kubelets(self, run: Run) -> None:
        c, board = self._c, Board(run)
        found, _ = await self.look_at(run.subject)
        now = c.clock.now()
        late = {
            one.device_id: one
            for one in certificates.due(found, now, self._before_days())
            if _is_kubelets(one)
        }
        control_planes = await self._control_planes(run.subject)

        async def see_to(member: Member) -> None:
            if late[member.device_id].has_ended(now):
                await self._let_in(run, member, control_planes)
            else:
                restart = certificates.restart_kubelet
                await c.on_host(member.device_id, restart, log=board.log(member), away_s=0)

        members = [one for one in await self._ready(run.subject) if one.device_id in late]
        await c.on_each(members, see_to, failed=board.failed)

    async def _let_in(self, run: Run, member: Member, sponsors: list[Member]) -> None:
        """A kubelet whose certificate has ended: the first of the control planes that can makes
        another one for it.
        """
        c, board = self._c, Board(run)
        cluster = await c.cluster(run.subject)
        await board.stage(member, "renewing")

        async def issue(sponsor: Member, shell: Shell) -> Secret:
            documents = kubeadm.init_documents(
                cluster.id,
                sponsor,
                cluster.options,
                version=cluster.kubernetes_version,
                token=tokens.new_token(),
            )
            return await certificates.issue_kubelet(shell, member.node_name, documents)

        pem = await c.by_first(sponsors, issue, log=board.log)

        async def lay(shell: Shell) -> None:
            await certificates.lay_kubelet(shell, pem, c.clock.now())

        await c.on_host(member.device_id, lay, log=board.log(member))
        board.log(member)("its kubelet has a new certificate")
        run.ctx.setdefault("let_in", []).append(member.device_id)
        await board.stage(member, "renewed")

    async def prove(self, run: Run) -> None:
        """What was to be renewed is; otherwise it is said which is not, and why."""
        c, board = self._c, Board(run)
        found, _ = await self.look_at(run.subject)
        now = c.clock.now()
        late = [
            one
            for one in certificates.due(found, now, self._before_days())
            if (one.has_ended(now) if _is_kubelets(one) else one.device_id in run.ctx["renewed"])
        ]
        if late:
            known = {one.device_id: one for one in await self._ready(run.subject)}
            raise board.raised(known[late[0].device_id]) or CertificatesNotRenewed(
                names=", ".join(f"{one.node_name}/{one.name}" for one in late)
            )
        soonest = next((one for one in found if not one.authority), None)
        result: dict[str, Any] = run.ctx.setdefault("result", {})
        result["renewed"] = list(run.ctx["renewed"])
        result["kubelets"] = sorted(set(run.ctx.get("let_in", ())))
        result["ends_at"] = to_text(soonest.ends_at) if soonest else None

    async def _peace(self, shell: Shell) -> None:
        """Raises EtcdFailed: the next control plane must not be ended while this one is away."""

        async def ask() -> bool | None:
            return True if await etcd.is_healthy(shell) else None

        if await self._c.until(ask, self._c.pace.api_s) is None:
            raise EtcdFailed(
                host=shell.host.name,
                what="endpoint health",
                reason=f"no answer within {self._c.pace.api_s:g} s of its restart",
            )

    async def _control_planes(self, cluster_id: str) -> list[Member]:
        return [one for one in await self._ready(cluster_id) if one.is_control_plane]

    async def _ready(self, cluster_id: str) -> list[Member]:
        members = await self._c.members(cluster_id)
        return [one for one in members if one.state == MemberState.READY]


async def _renew_files(shell: Shell) -> None:
    await shell.run(list(certificates.RENEW_ARGV), root=True, timeout_s=120)


def _is_kubelets(one: NodeCertificate) -> bool:
    return one.name == certificates.KUBELET_NAME


def _nothing(line: str) -> None:
    del line
