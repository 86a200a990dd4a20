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


def test_what_ends_with_its_host_is_not_held_against_it():
    proof = Proof("uptime", uptime_s=10, within_s=60)
    assert proof.judge(status(), 0.0) == "waiting"
    proof.interrupt()
    # As the API remembers it, then as the host finds it after its start, then as it runs again.
    assert proof.judge(status(), 20.0) == "waiting"
    assert proof.judge(status("exited", exit_code=255), 21.0) == "waiting"
    assert proof.judge(status(restarts=1), 22.0) == "waiting"
    assert proof.judge(status(restarts=1), 23.0) == "waiting"
    assert proof.judge(status(restarts=1), 32.9) == "waiting"
    assert proof.judge(status(restarts=1), 33.0) == "proven"


def test_one_that_ends_again_and_again_after_its_host_is_back_runs_out_of_time():
    proof = Proof("uptime", uptime_s=10, within_s=60)
    proof.interrupt()
    for second in range(0, 60, 6):
        assert proof.judge(status(restarts=second, exit_code=3), float(second)) == "waiting"
    assert proof.judge(status("restarting", restarts=60, exit_code=3), 60.0) == "failed"
    assert "exit 3" in proof.reason
    assert "60 s" in proof.reason


def test_memory_that_did_not_suffice_is_its_own_affair_whatever_the_host_did():
    proof = Proof(None)
    proof.interrupt()
    assert proof.judge(status("exited", oom_killed=True), 0.0) == "failed"
