"""How a control plane's pods are held and restarted, against a runtime, a kubelet and a clock made of
small programs.
"""

import subprocess

import pytest

from haechi.domains.clusters.static_pods import (
    GRACE_S,
    HOLD_SCRIPT,
    PATIENCE_S,
    READY_S,
    RESTART_SCRIPT,
    STOP_S,
)

# A container that heeds SIGTERM after `patience` sleeps, and the kubelet that starts another then.
CTR = """\
#!/bin/sh
cd "$(dirname "$0")"
shift 2
case "$1 $2" in
"containers ls") echo old; echo new ;;
"tasks ls")
  echo "TASK PID STATUS"
  if [ -e alive-old ]; then echo "old 1 RUNNING"; elif [ -e comes ]; then echo "new 2 RUNNING"; fi
  ;;
"tasks kill")
  echo "$4 $5" >> signals
  case $4 in SIGTERM) cp patience left ;; SIGKILL) rm -f alive-old ;; esac
  ;;
esac
"""
SLEEP = """\
#!/bin/sh
cd "$(dirname "$0")"
[ ! -e will-come ] || touch comes
[ -e left ] || exit 0
left=$(($(cat left) - 1)); echo "$left" > left
[ "$left" -gt 0 ] || rm -f alive-old
"""


@pytest.fixture
def restart(tmp_path):
    def run(*, patience, comes=True, runs=True, grace=3, limit=20):
        for name, text in (("ctr", CTR), ("sleep", SLEEP)):
            (tmp_path / name).write_text(text)
            (tmp_path / name).chmod(0o755)
        (tmp_path / "patience").write_text(str(patience))
        for name, there in (("alive-old", runs), ("will-come", comes)):
            if there:
                (tmp_path / name).touch()
        ran = subprocess.run(
            ["/bin/sh", "-c", RESTART_SCRIPT, "x", "kube-apiserver", str(grace), str(limit)],
            env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        signals = tmp_path / "signals"
        return ran, signals.read_text().split("\n")[:-1] if signals.exists() else []

    return run


def test_one_that_ends_in_time_is_not_killed(restart):
    ran, signals = restart(patience=2)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert signals == ["SIGTERM old"]


def test_one_that_waits_for_its_watches_is_killed_after_its_grace(restart):
    ran, signals = restart(patience=60)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert signals == ["SIGTERM old", "SIGKILL old"]


def test_one_that_does_not_run_is_waited_for(restart):
    ran, signals = restart(patience=1, runs=False)
    assert ran.returncode == 0
    assert signals == []


def test_one_that_does_not_come_back_is_said(restart):
    ran, _ = restart(patience=1, comes=False)
    assert ran.returncode == 75
    assert "kube-apiserver did not come back" in ran.stderr


# Pods `etcd` and `proxy`, of one container each. A kubelet that `sees` the API ends those whose
# manifest is gone; one that does not starts them again, until it is started anew itself.
HELD_CTR = """\
#!/bin/sh
cd "$(dirname "$0")"
shift 2
case "$1 $2" in
"containers ls") echo "id-${4##*==}" ;;
"tasks ls")
  echo "TASK PID STATUS"
  for name in etcd proxy; do if [ -e "runs-$name" ]; then echo "id-$name 1 RUNNING"; fi; done
  ;;
"tasks kill")
  echo "$4 $5" >> did
  if [ ! -e stuck ] && { [ "$4" = SIGKILL ] || [ ! -e stubborn ]; }; then
    rm -f "runs-${5#id-}"
    if [ -e knows ]; then touch "runs-${5#id-}"; fi
  fi
  ;;
esac
"""
KUBELET = """\
#!/bin/sh
cd "$(dirname "$0")"
if [ "$1" = restart ]; then echo "restart kubelet" >> did; rm -f knows; fi
"""
PASSES = """\
#!/bin/sh
cd "$(dirname "$0")"
if [ -e sees ] && [ ! -e from/etcd.yaml ]; then rm -f runs-etcd; fi
"""


@pytest.fixture
def hold(tmp_path):
    def run(*there):
        for name, text in (("ctr", HELD_CTR), ("systemctl", KUBELET), ("sleep", PASSES)):
            (tmp_path / name).write_text(text)
            (tmp_path / name).chmod(0o755)
        for name in ("runs-etcd", "runs-proxy", *there):
            (tmp_path / name).touch()
        (tmp_path / "from").mkdir()
        (tmp_path / "from" / "etcd.yaml").touch()
        limits = ["3", "5", "20"]
        folders = [str(tmp_path / "from"), str(tmp_path / "held")]
        ran = subprocess.run(
            ["/bin/sh", "-c", HOLD_SCRIPT, "x", *folders, *limits, "etcd"],
            env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert (tmp_path / "held" / "etcd.yaml").exists()
        assert (tmp_path / "runs-proxy").exists()
        did = tmp_path / "did"
        return ran, did.read_text().split("\n")[:-1] if did.exists() else []

    return run


def test_a_kubelet_that_sees_the_api_ends_what_is_held(hold):
    ran, did = hold("sees", "knows")
    assert (ran.returncode, ran.stderr, did) == (0, "", [])


def test_one_that_has_not_seen_it_is_started_anew_and_its_pods_are_ended(hold):
    ran, did = hold("knows")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert did == ["restart kubelet", "SIGTERM id-etcd"]


def test_a_held_one_that_does_not_heed_is_killed(hold):
    ran, did = hold("stubborn")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert did == ["restart kubelet", "SIGTERM id-etcd", "SIGKILL id-etcd"]


def test_one_that_cannot_be_held_is_named(hold):
    ran, _ = hold("stuck")
    assert ran.returncode == 75
    assert ran.stderr == "still running: etcd \n"


def test_there_is_time_to_end_what_the_kubelet_does_not():
    assert PATIENCE_S + 30 + 30 < STOP_S


def test_a_kubelet_that_backs_off_is_outwaited():
    # Kubernetes' MaxContainerBackOff
    assert READY_S > 300


def test_only_the_api_server_is_given_less_than_the_kubelet_gives():
    assert set(GRACE_S) == {"kube-apiserver"}
