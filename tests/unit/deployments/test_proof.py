"""What proves a container, and what disproves it."""

import pytest

from haechi.domains.deployments.proof import Proof
from haechi.protocol.desired import ContainerStatus


def status(state="running", **facts):
    return ContainerStatus("dep-a", state, **facts)


@pytest.mark.parametrize(
    ("ready", "facts", "verdict"),
    [
        (None, {}, "waiting"),
        (None, {"ready_ms": 1}, "proven"),
        (None, {"first_result_ms": 1}, "proven"),
        ("sdk", {"first_result_ms": 1}, "waiting"),
        ("sdk", {"ready_ms": 1}, "proven"),
        ("result", {"ready_ms": 1}, "waiting"),
        ("result", {"first_result_ms": 1}, "proven"),
        ("uptime", {"ready_ms": 1, "first_result_ms": 1}, "waiting"),
        (None, {"restarts": 1, "ready_ms": 1}, "failed"),
        (None, {"oom_killed": True}, "failed"),
    ],
)
def test_first_look(ready, facts, verdict):
    assert Proof(ready).judge(status(**facts), 100.0) == verdict


@pytest.mark.parametrize("state", ["exited", "failed", "restarting"])
def test_an_end_is_a_failure_even_with_code_0(state):
    proof = Proof(None)
    assert proof.judge(status(state, exit_code=0), 1.0) == "failed"
    assert proof.reason


def test_uptime_counts_from_running():
    proof = Proof("uptime", uptime_s=10)
    assert proof.judge(status("starting"), 0.0) == "waiting"
    assert proof.judge(status(), 5.0) == "waiting"
    assert proof.judge(status(), 14.9) == "waiting"
    assert proof.judge(status(), 15.0) == "proven"
    assert proof.reason == "uptime"


def test_time_runs_out():
    proof = Proof("sdk", within_s=30)
    assert proof.judge(status(), 0.0) == "waiting"
    assert proof.judge(status(), 30.0) == "failed"
    assert "30 s" in proof.reason


def test_absent_waits_for_its_time():
    proof = Proof(None, within_s=5)
    assert proof.judge(status("absent"), 0.0) == "waiting"
    assert proof.judge(status("absent"), 5.0) == "failed"
