"""Every node of every cluster, watched each second: silent within 3 s, dead by the one rule, why.

Three ways lead to a node: its agent's link (judged by `agents`, and only asked here), its kubelet,
and where neither answers its SSH. The Kubernetes API is asked how it sees its nodes, but not
whether they live: it says so 40 s late. A device without an agent is known to `agents` by what is
heard here, so there is one answer to how a device is doing.
"""

import logging
from collections.abc import Callable
from typing import Any, Final

from haechi.core.clock import to_text
from haechi.core.tasks import Tasks
from haechi.domains.agents.presence import Limits
from haechi.domains.clusters import store
from haechi.domains.clusters.asking import AGAIN_DEAD_S, AGAIN_S
from haechi.domains.clusters.context import Context
from haechi.domains.clusters.judging import (
    Judgement,
    NodeWord,
    Sight,
    judge_node,
    why_agent_away,
)
from haechi.domains.clusters.model import ClusterState, Member, MemberState
from haechi.domains.clusters.ports import Node
from haechi.domains.clusters.watched import (
    SSH_ASK_S,
    AgentsView,
    ApiState,
    Neighbours,
    NodeState,
    Probe,
    Watched,
    WatchedApi,
)
from haechi.errors import AppError

log = logging.getLogger(__name__)

ASK_S: Final = 1.0
JUDGE_S: Final = 0.25
MEMBERS_S: Final = 2.0
API_S: Final = 2.0
SLOW_ASK_S: Final = 5.0
"""For hosts that wait to be cleaned."""
_LATE_S: Final = 0.75
_SSH_PORT: Final = 22


ReturnHandler = Callable[[Member], None]
"""Called when a member's host answers after it did not, and first of all; quick."""
AwayHandler = Callable[[Member, float], None]
"""Called each second for a member that is silent or dead, with for how long (s); quick."""


class Watching:
    def __init__(
        self,
        context: Context,
        *,
        agents: AgentsView,
        probe: Probe,
        neighbours: Neighbours,
        limits: Limits,
    ) -> None:
        self._c = context
        self._agents = agents
        self.probe = probe
        self._neighbours = neighbours
        self._limits = limits
        self._watched: dict[tuple[str, str], Watched] = {}
        self._by_device: dict[str, Watched] = {}
        self._apis: dict[str, WatchedApi] = {}
        self._loops: dict[object, Any] = {}
        self._tasks = Tasks("watching")
        self._judged_s = 0.0
        self.on_return: list[ReturnHandler] = []
        self.on_away: list[AwayHandler] = []

    async def start(self) -> None:
        await self._take_up_members()
        self._tasks.forever("members", self._follow_members)
        self._tasks.forever("judge", self._judge_forever)

    async def close(self) -> None:
        await self._tasks.close()

    # --- what others ask

    def clusters(self) -> list[str]:
        """Those that are formed."""
        return list(self._apis)

    def nodes(self, cluster_id: str) -> list[NodeState]:
        found = [one for one in self._watched.values() if one.member.cluster_id == cluster_id]
        found.sort(key=lambda one: (one.member.role, one.member.node_name))
        return [self._shown(one) for one in found]

    def api(self, cluster_id: str) -> WatchedApi:
        return self._apis.get(cluster_id, WatchedApi())

    def presence(self, device_id: str) -> Judgement | None:
        watched = self._by_device.get(device_id)
        return watched.judgement if watched else None

    def seen_node(self, cluster_id: str, node_name: str) -> Node | None:
        """As its API said last."""
        return self.api(cluster_id).nodes.get(node_name)

    def reason_word(self, device_id: str) -> str | None:
        """For `agents`: why a silent device is silent."""
        watched = self._by_device.get(device_id)
        if watched is None:
            return None
        return why_agent_away(self._sight(watched, self._c.clock.monotonic()), self._limits)

    # --- members

    async def _follow_members(self) -> None:
        while True:
            await self._c.clock.sleep(MEMBERS_S)
            await self._take_up_members()

    async def _take_up_members(self) -> None:
        async with self._c.db.read() as tx:
            clusters = await store.in_states(tx, [ClusterState.READY])
            members = [one for c in clusters for one in await store.members(tx, c.id)]
            cleaning = await store.members_in_state(tx, MemberState.CLEANING)
        wanted = {
            (one.cluster_id, one.device_id): one
            for one in [*members, *cleaning]
            if one.state in {MemberState.READY, MemberState.CLEANING}
        }
        still = {device_id for _, device_id in wanted}
        for key in set(self._watched) - set(wanted):
            self._leave(key)
            if key[1] not in still:
                self._agents.forget_word(key[1])
        for key, member in wanted.items():
            self._take_up(key, member)
        self._by_device = {one.member.device_id: one for one in self._watched.values()}
        ready = {one.id for one in clusters}
        for cluster_id in set(self._apis) - ready:
            del self._apis[cluster_id]
            self._stop(cluster_id)
        for cluster_id in ready - set(self._apis):
            self._apis[cluster_id] = WatchedApi()
            self._loops[cluster_id] = self._tasks.spawn(
                f"api:{cluster_id}", self._ask_api(cluster_id)
            )

    def _take_up(self, key: tuple[str, str], member: Member) -> None:
        known = self._watched.get(key)
        if known is None:
            self._watched[key] = Watched(member, began_s=self._c.clock.monotonic())
            self._loops[key] = self._tasks.spawn(f"node:{member.device_id}", self._ask(key))
            return
        if known.member.address != member.address:
            self.probe.forget(known.member.address)
        known.member = member

    def _leave(self, key: tuple[str, str]) -> None:
        watched = self._watched.pop(key)
        self._stop(key)
        self.probe.forget(watched.member.address)
        self._neighbours.forget(watched.member.device_id)
        self._tell(watched, {"state": "gone", "reason": "not_a_member"})

    def _stop(self, key: object) -> None:
        task = self._loops.pop(key, None)
        if task is not None:
            task.cancel()

    # --- asking

    async def _ask(self, key: tuple[str, str]) -> None:
        """One node, for as long as it is a member; each has its own pace, so that a silent one does
        not keep the others waiting.
        """
        clock = self._c.clock
        while (watched := self._watched.get(key)) is not None:
            began_s = clock.monotonic()
            cleaning = watched.member.state == MemberState.CLEANING
            pace_s = ASK_S
            try:
                if await self._ask_once(watched, cleaning=cleaning):
                    pace_s = SSH_ASK_S
            except AppError as error:
                log.warning("node %s could not be asked: %s", watched.member.node_name, error)
            if cleaning:
                pace_s = SLOW_ASK_S
            await clock.sleep(max(0.0, began_s + pace_s - clock.monotonic()))

    async def _ask_once(self, watched: Watched, *, cleaning: bool) -> bool:
        """Was its sshd asked?"""
        member, clock = watched.member, self._c.clock
        if not member.address:
            return False
        if not cleaning:
            answer = await self.probe.kubelet(member.address)
            watched.kubelet.heard(answer, clock.monotonic())
            if answer == "answers":
                self._agents.note_word(member.device_id)
            if answer == "answers" or self._agents.is_connected(member.device_id):
                return False
        # Only now: every question leaves a line in the log of a host's sshd.
        answer = await self.probe.ssh(member.address, await self._ssh_port(member))
        watched.ssh.heard(answer, clock.monotonic())
        if answer == "answers":
            self._agents.note_word(member.device_id)
        else:
            self._agents.note_silence(member.device_id)
        return True

    async def _ssh_port(self, member: Member) -> int:
        device = await self._c.devices.device(member.device_id)
        return device.port or _SSH_PORT

    async def _ask_api(self, cluster_id: str) -> None:
        clock = self._c.clock
        while True:
            try:
                async with self._c.kube(cluster_id) as kube:
                    while True:
                        self._heard_api(cluster_id, await kube.nodes())
                        await clock.sleep(API_S)
            except AppError as error:
                api = self._apis.get(cluster_id)
                if api is not None:
                    api.error = str(error)[:300]
            await clock.sleep(ASK_S)

    def _heard_api(self, cluster_id: str, nodes: list[Node]) -> None:
        api = self._apis.get(cluster_id)
        if api is None:
            return
        now_s = self._c.clock.monotonic()
        api.last_word_s, api.error = now_s, ""
        api.nodes = {one.name: one for one in nodes}
        for watched in self._watched.values():
            node = api.nodes.get(watched.member.node_name)
            if watched.member.cluster_id != cluster_id or node is None:
                continue
            watched.node = NodeWord(
                ready=node.ready,
                cut_off=any(
                    one.type == "Ready" and one.status == "Unknown" for one in node.conditions
                ),
                message=node.why_not_ready,
            )
            if node.ready:
                watched.not_ready_since_s = None
            elif watched.not_ready_since_s is None:
                watched.not_ready_since_s = now_s

    # --- judging

    async def _judge_forever(self) -> None:
        while True:
            await self._c.clock.sleep(JUDGE_S)
            self.judge()

    def judge(self) -> None:
        now_s = self._c.clock.monotonic()
        self._forgive_own_absence(now_s)
        for cluster_id, api in self._apis.items():
            self._judge_api(cluster_id, api, now_s)
        for watched in self._watched.values():
            if watched.member.state == MemberState.READY:
                self._judge(watched, now_s)
            else:
                self._await(watched, now_s)

    def _await(self, watched: Watched, now_s: float) -> None:
        """One that is to be cleaned as soon as it is there."""
        if watched.ssh.answer == "answers":
            for handler in self.on_return:
                handler(watched.member)
            return
        heard_s = watched.ssh.last_word_s or watched.began_s or now_s
        for away in self.on_away:
            away(watched.member, now_s - heard_s)

    def _forgive_own_absence(self, now_s: float) -> None:
        """A server that was busy or stopped has heard nobody: that is nobody's silence."""
        late_s = now_s - self._judged_s - JUDGE_S if self._judged_s else 0.0
        self._judged_s = now_s
        if late_s < _LATE_S:
            return
        for watched in self._watched.values():
            if watched.began_s is not None:
                watched.began_s += late_s
            for channel in (watched.ssh, watched.kubelet):
                if channel.last_word_s is not None:
                    channel.last_word_s += late_s
        for api in self._apis.values():
            if api.last_word_s is not None:
                api.last_word_s += late_s

    def _judge_api(self, cluster_id: str, api: WatchedApi, now_s: float) -> None:
        state: ApiState
        if api.last_word_s is None:
            state = "away" if api.error else "unknown"
        else:
            state = "away" if now_s - api.last_word_s >= self._limits.silent_after_s else "ok"
        if state == api.state:
            return
        api.state, api.since = state, self._c.clock.now()
        log.info("the API of cluster %s is %s %s", cluster_id, state, api.error)
        data = {"kind": "cluster_api", "id": cluster_id, "state": state}
        self._c.bus.publish("states", {**data, "since": to_text(api.since)})

    def _judge(self, watched: Watched, now_s: float) -> None:
        if self._agents.runtime_runs(watched.member.device_id) is not False:
            watched.runtime_down_since_s = None
        elif watched.runtime_down_since_s is None:
            watched.runtime_down_since_s = now_s
        judgement = judge_node(self._sight(watched, now_s), self._limits)
        member = watched.member
        if judgement.presence in {"silent", "dead"}:
            if watched.away_since_s is None:
                watched.away_since_s = now_s
            again_s = AGAIN_S if judgement.presence == "silent" else AGAIN_DEAD_S
            self._neighbours.ask(member, self._that_live(watched), again_s=again_s)
            for away in self.on_away:
                away(member, now_s - watched.away_since_s)
        elif watched.away_since_s is not None or watched.since is None:
            watched.away_since_s = None
            self._neighbours.forget(member.device_id)
            if judgement.presence == "ok":
                for handler in self.on_return:
                    handler(member)
        if judgement == watched.judgement and watched.since is not None:
            return
        turned = judgement.presence != watched.judgement.presence or watched.since is None
        watched.judgement = judgement
        if turned:
            watched.since = self._c.clock.now()
        log.info(
            "node %s of %s is %s (%s)",
            member.node_name,
            member.cluster_id,
            judgement.presence,
            judgement.reason,
        )
        self._tell(watched, {"state": judgement.presence, "reason": judgement.reason})

    def _that_live(self, but: Watched) -> list[Member]:
        return [
            one.member
            for one in self._watched.values()
            if one.member.cluster_id == but.member.cluster_id
            and one is not but
            and one.judgement.presence == "ok"
        ]

    def _sight(self, watched: Watched, now_s: float) -> Sight:
        device_id = watched.member.device_id
        return Sight(
            now_s=now_s,
            agent_word_s=self._agents.last_word_s(device_id),
            agent_connected=self._agents.is_connected(device_id),
            ssh=watched.ssh,
            kubelet=watched.kubelet,
            node=watched.node,
            not_ready_since_s=watched.not_ready_since_s,
            api_answers=self.api(watched.member.cluster_id).state != "away",
            neighbours_reach=self._neighbours.word(device_id),
            watched_since_s=watched.began_s,
            runtime_down_since_s=watched.runtime_down_since_s,
        )

    def _tell(self, watched: Watched, data: dict[str, Any]) -> None:
        member = watched.member
        known = {"kind": "node", "id": member.device_id, "cluster_id": member.cluster_id}
        detail = watched.judgement.detail[:300]
        self._c.bus.publish("states", {**known, **data, "detail": detail})

    def _shown(self, watched: Watched) -> NodeState:
        member = watched.member
        node = self.seen_node(member.cluster_id, member.node_name)
        return NodeState(
            cluster_id=member.cluster_id,
            device_id=member.device_id,
            node_name=member.node_name,
            role=member.role,
            address=member.address,
            presence=watched.judgement.presence,
            reason=watched.judgement.reason,
            detail=watched.judgement.detail,
            since=watched.since,
            ready=None if node is None else node.ready,
            kubelet_version="" if node is None else node.kubelet_version,
            agent_connected=self._agents.is_connected(member.device_id),
        )
