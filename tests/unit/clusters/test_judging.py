"""What a node is judged to be, from what was seen of it."""

import pytest

from haechi.domains.agents.presence import Limits
from haechi.domains.clusters.judging import (
    Channel,
    NodeWord,
    Sight,
    judge_node,
    why_agent_away,
)
from haechi.domains.clusters.reasons import REMEDIES, TEXTS, warnings

LIMITS = Limits(silent_after_s=3.0, dead_after_s=8.0)
NOW = 1000.0
WELL = NodeWord(ready=True, cut_off=False, message="")


def sight(**changes):
    values = {
        "now_s": NOW,
        "agent_word_s": NOW,
        "agent_connected": True,
        "ssh": Channel(NOW, "answers"),
        "kubelet": Channel(NOW, "answers"),
        "node": WELL,
        "not_ready_since_s": None,
        "api_answers": True,
        "neighbours_reach": None,
        **changes,
    }
    return Sight(**values)


def away(since_s, **changes):
    gone = Channel(NOW - since_s, "unreachable")
    values = {"agent_word_s": NOW - since_s, "agent_connected": False, "ssh": gone}
    return sight(**{**values, "kubelet": Channel(NOW - since_s, "unreachable"), **changes})


def judged(seen):
    found = judge_node(seen, LIMITS)
    return found.presence, found.reason


def test_all_is_well():
    assert judged(sight()) == ("ok", "connected")


def test_one_that_was_never_heard_is_new():
    nothing = Channel()
    seen = sight(agent_word_s=None, agent_connected=False, ssh=nothing, kubelet=nothing, node=None)
    assert judged(seen) == ("new", "never_called")


@pytest.mark.parametrize(
    ("watched_s", "presence", "reason"),
    [(6.0, "new", "never_called"), (8.1, "dead", "unreachable")],
)
def test_one_that_says_nothing_from_the_start_is_dead_in_time(watched_s, presence, reason):
    """It went while the server was away, or before it was ever asked."""
    gone = Channel(None, "unreachable")
    seen = sight(
        agent_word_s=None,
        agent_connected=False,
        ssh=gone,
        kubelet=gone,
        watched_since_s=NOW - watched_s,
    )
    assert judged(seen) == (presence, reason)


@pytest.mark.parametrize(
    ("since_s", "neighbours", "presence"),
    [
        (2.0, None, "ok"),
        (2.9, None, "silent"),
        (2.9, False, "dead"),
        (5.0, True, "silent"),
        (7.9, True, "dead"),
        (60.0, None, "dead"),
    ],
)
def test_silence_and_death_follow_the_one_rule(since_s, neighbours, presence):
    assert judge_node(away(since_s, neighbours_reach=neighbours), LIMITS).presence == presence


def test_any_word_keeps_a_host_alive():
    assert judged(away(60, ssh=Channel(NOW, "answers"))) == ("dead", "kubelet_dead")
    assert judged(away(60, agent_word_s=NOW)) == ("dead", "kubelet_dead")
    assert judged(away(60, kubelet=Channel(NOW, "answers"))) == ("ok", "connected")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "unreachable"),
        ({"neighbours_reach": False}, "unreachable"),
        ({"neighbours_reach": True}, "path_down"),
        ({"ssh": Channel(NOW - 5, "mute")}, "host_stuck"),
        ({"ssh": Channel(NOW - 5, "mute"), "neighbours_reach": True}, "host_stuck"),
        ({"ssh": Channel(NOW - 5, "mute"), "neighbours_reach": False}, "unreachable"),
        ({"ssh": Channel(NOW - 5, "refused")}, "sshd_dead"),
    ],
)
def test_why_nothing_comes(changes, reason):
    assert judged(away(5, **changes))[1] == reason


def test_a_kubelet_is_lost_alone():
    assert judged(sight(kubelet=Channel(NOW - 4, "refused"))) == ("silent", "kubelet_dead")
    assert judged(sight(kubelet=Channel(NOW - 9, "refused"))) == ("dead", "kubelet_dead")
    assert judged(sight(kubelet=Channel(NOW - 2, "refused"))) == ("ok", "connected")


@pytest.mark.parametrize(
    ("message", "cut_off", "reason"),
    [
        ("container runtime is down", False, "runtime_dead"),
        (
            "[container runtime is down, PLEG is not healthy: pleg was last seen 3m]",
            False,
            "runtime_dead",
        ),
        ("container runtime not ready: RuntimeReady=false reason:x", False, "runtime_dead"),
        (
            (
                "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady "
                "message:Network plugin returns error: cni plugin not initialized"
            ),
            False,
            "not_ready",
        ),
        ("Kubelet stopped posting node status.", True, "cut_off_from_api"),
    ],
)
def test_a_node_that_is_not_ready_says_why(message, cut_off, reason):
    word = NodeWord(ready=False, cut_off=cut_off, message=message)
    found = judge_node(sight(node=word, not_ready_since_s=NOW - 4), LIMITS)
    assert (found.presence, found.reason, found.detail) == ("silent", reason, message)
    assert judge_node(sight(node=word, not_ready_since_s=NOW - 9), LIMITS).presence == "dead"


@pytest.mark.parametrize(("since_s", "presence"), [(0.0, "silent"), (4.0, "silent"), (9.0, "dead")])
def test_an_agent_says_at_once_that_the_runtime_is_down(since_s, presence):
    """The kubelet still calls the node ready for half a minute."""
    seen = sight(runtime_down_since_s=NOW - since_s)
    assert judged(seen) == (presence, "runtime_dead")
    assert judged(sight(runtime_down_since_s=NOW - since_s, api_answers=False))[0] == presence


def test_a_dead_kubelet_comes_before_its_runtime():
    seen = sight(runtime_down_since_s=NOW - 9, kubelet=Channel(NOW - 9, "refused"))
    assert judged(seen) == ("dead", "kubelet_dead")


def test_nothing_is_held_against_a_node_whose_api_is_away():
    word = NodeWord(ready=False, cut_off=True, message="Kubelet stopped posting node status.")
    seen = sight(api_answers=False, node=word, not_ready_since_s=NOW - 60)
    assert judged(seen) == ("ok", "api_away")
    assert judged(sight(api_answers=False)) == ("ok", "api_away")


def test_a_dead_agent_on_a_living_host():
    seen = sight(agent_word_s=NOW - 5, agent_connected=False)
    assert why_agent_away(seen, LIMITS) == "agent_dead"
    assert why_agent_away(away(5), LIMITS) == "unreachable"
    unseen = away(5, ssh=Channel(), kubelet=Channel())
    assert why_agent_away(unseen, LIMITS) is None
    assert why_agent_away(away(5, kubelet=Channel(NOW, "answers")), LIMITS) == "agent_dead"


def test_what_speaks_against_leaving_a_cluster_as_it_is():
    assert warnings(1, backed_up=True) == []
    assert warnings(2, backed_up=True) == ["two_control_planes"]
    assert warnings(3, backed_up=False) == ["no_backup"]
    assert warnings(4, backed_up=True) == ["even_control_planes"]


def test_every_reason_is_said_in_both_languages():
    assert set(REMEDIES) <= set(TEXTS)
    assert all(text.ko and text.en for text in [*TEXTS.values(), *REMEDIES.values()])
