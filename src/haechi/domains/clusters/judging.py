"""How a node is doing, judged from what was seen of it; pure.

A node is a device and more: the device's own silence and death are judged by the same rule and
limits as everywhere (`agents.presence`), and a device that lives may still be lost as a node,
because its kubelet or its container runtime is. Work moves only with the device's death, never with
the node's alone: containers outlive their kubelet.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal

from haechi.domains.agents.model import Presence
from haechi.domains.agents.presence import Limits, judge
from haechi.domains.clusters.reasons import Reason

_RUNTIME_DOWN: Final = ("container runtime is down", "runtimeready=false", "pleg is not healthy")
"""How kubelets say it in the message of their Ready condition."""

Answer = Literal["answers", "refused", "mute", "unreachable"]
"""`refused`: the host's kernel answers, no program listens. `mute`: the connection is taken, or
nothing is heard at all within the time limit of a program that was. `unreachable`: no host there.
"""


@dataclass(slots=True)
class Channel:
    """One way to hear of a node: when it last worked (server monotonic), and how it is now."""

    last_word_s: float | None = None
    answer: Answer | None = None

    def heard(self, answer: Answer, now_s: float) -> None:
        self.answer = answer
        if answer == "answers":
            self.last_word_s = now_s


@dataclass(frozen=True, slots=True)
class NodeWord:
    """What the Kubernetes API says of a node."""

    ready: bool
    cut_off: bool
    """Ready is Unknown: the API has not heard of the kubelet for long."""
    message: str


@dataclass(frozen=True, slots=True)
class Sight:
    """All that is known of one node at a moment."""

    now_s: float
    agent_word_s: float | None
    """When its agent was heard last; None: it has none, or never called."""
    agent_connected: bool
    ssh: Channel
    kubelet: Channel
    node: NodeWord | None
    """None: the API has not said anything yet."""
    not_ready_since_s: float | None
    api_answers: bool
    neighbours_reach: bool | None
    watched_since_s: float | None = None
    """Since when a word of it would have been heard here."""
    runtime_down_since_s: float | None = None
    """Since when its agent says that its container runtime does not run: at once, where its kubelet
    says so after half a minute."""


@dataclass(frozen=True, slots=True)
class Judgement:
    presence: Presence
    reason: Reason
    detail: str = ""
    """What the node itself said, where it said something."""


def judge_node(sight: Sight, limits: Limits) -> Judgement:
    host_word_s = _latest(sight.agent_word_s, sight.ssh.last_word_s, sight.kubelet.last_word_s)
    presence, _ = judge(host_word_s, sight.now_s, limits, None)
    if presence == "silent":
        presence, _ = judge(host_word_s, sight.now_s, limits, sight.neighbours_reach)
    if presence == "new":
        # A member that says nothing from the start (it died while the server was away) is dead too.
        waited, _ = judge(sight.watched_since_s, sight.now_s, limits, None)
        if waited != "dead":
            return Judgement("new", "never_called")
        presence = waited
    if presence in {"silent", "dead"}:
        return Judgement(presence, why_away(sight))
    return _judge_lived_in(sight, limits)


def _judge_lived_in(sight: Sight, limits: Limits) -> Judgement:
    """The host is there; is it still a node?"""
    kubelet, _ = judge(sight.kubelet.last_word_s, sight.now_s, limits, None)
    if kubelet in {"silent", "dead"}:
        return Judgement(kubelet, "kubelet_dead")
    if sight.runtime_down_since_s is not None:
        return Judgement(_lost_since(sight.runtime_down_since_s, sight, limits), "runtime_dead")
    if sight.node is not None and not sight.node.ready:
        if not sight.api_answers:
            return Judgement("ok", "api_away")
        state = _lost_since(sight.not_ready_since_s, sight, limits)
        return Judgement(state, _why_not_ready(sight.node), sight.node.message)
    if not sight.api_answers:
        return Judgement("ok", "api_away")
    return Judgement("ok", "connected")


def why_away(sight: Sight) -> Reason:
    """Of a host from which nothing comes."""
    return why_silent({sight.ssh.answer, sight.kubelet.answer}, sight.neighbours_reach)


def why_silent(answers: Collection[Answer | None], neighbours_reach: bool | None) -> Reason:
    """What the last answers to whatever was asked of it tell."""
    if "mute" in answers and neighbours_reach is not False:
        return "host_stuck"
    if "refused" in answers:
        return "sshd_dead"
    if neighbours_reach is True:
        return "path_down"
    return "unreachable"


def why_agent_away(sight: Sight, limits: Limits) -> Reason | None:
    """Of a device whose agent is silent: what the other channels tell. None: nothing yet."""
    for channel in (sight.ssh, sight.kubelet):
        presence, _ = judge(channel.last_word_s, sight.now_s, limits, None)
        if presence == "ok" and channel.answer == "answers":
            return "agent_dead"
    if sight.ssh.answer is None and sight.kubelet.answer is None:
        return None
    return why_away(sight)


def _lost_since(since_s: float | None, sight: Sight, limits: Limits) -> Presence:
    """Of what is not silence but a word: there is nothing to wait for."""
    presence, _ = judge(since_s, sight.now_s, limits, None)
    return "dead" if presence == "dead" else "silent"


def _why_not_ready(node: NodeWord) -> Reason:
    words = node.message.lower()
    if any(mark in words for mark in _RUNTIME_DOWN):
        return "runtime_dead"
    return "cut_off_from_api" if node.cut_off else "not_ready"


def _latest(*words: float | None) -> float | None:
    known = [word for word in words if word is not None]
    return max(known) if known else None
