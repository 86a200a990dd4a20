"""The operation `readdress_server`: the server moved, and every node is told anew how to reach it.

Nodes know the server by names that they resolve themselves (registry, agents' door), so nothing
that was issued changes; what is laid anew is what joining a node laid (its hooks).
"""

from typing import Final

from haechi.core.operations import Definition, Run, Step
from haechi.domains.clusters import store
from haechi.domains.clusters.board import Board
from haechi.domains.clusters.context import Context
from haechi.domains.clusters.errors import WorkersFailed
from haechi.domains.clusters.model import ClusterState, Member, MemberState
from haechi.errors import Text

KIND: Final = "readdress_server"


class Rewiring:
    def __init__(self, context: Context) -> None:
        self._c = context

    def definition(self) -> Definition:
        return Definition(
            kind=KIND,
            title=Text("서버 주소 변경 알리기", "Tell nodes of the server's new address"),
            parallel=1,
            steps=[
                Step(
                    "apply_hooks",
                    Text("노드마다 다시 연결", "Wire every node anew"),
                    self.apply_hooks,
                    timeout_s=3600,
                )
            ],
        )

    async def apply_hooks(self, run: Run) -> None:
        """One that is away is named; run it again when it is back."""
        c = self._c
        board = Board(run)
        async with c.db.read() as tx:
            clusters = await store.in_states(tx, [ClusterState.READY])
        members = [
            one
            for cluster in clusters
            for one in await c.members(cluster.id)
            if one.state == MemberState.READY
        ]

        async def wire(member: Member) -> None:
            board.forgive(member)
            for hook in c.hooks:
                await board.stage(member, hook.name)
                await hook.joined(member.cluster_id, member.device_id, log=board.log(member))
            await board.stage(member, "ready")

        await c.on_each(members, wire, failed=board.failed)
        out = board.out(members)
        if out:
            names = [{"host": one.node_name} for one in out]
            raise board.raised(out[0]) or WorkersFailed(
                failed=len(out), total=len(members), hosts=names
            )
