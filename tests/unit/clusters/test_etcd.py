"""etcd's tools: what they are asked, what their answers mean."""

import json
import subprocess

import pytest

from haechi.domains.clusters import etcd
from haechi.domains.clusters.backups import restoring
from haechi.domains.clusters.etcd_errors import EtcdFailed, EtcdQuorumLost
from haechi.domains.clusters.host.ports import Ran
from haechi.testing.hosts import FakeHosts

MEMBERS = json.dumps(
    {
        "header": {"cluster_id": 1},
        "members": [
            {
                "ID": 17523838473621958731,
                "name": "cp-1",
                "peerURLs": ["https://192.168.0.9:2380"],
                "clientURLs": ["https://192.168.0.9:2379"],
            },
            {"ID": 11, "peerURLs": ["https://192.168.0.10:2380"], "isLearner": True},
        ],
    }
)


def asked(shell):
    """What the tools were asked, without the script around."""
    return [call.command.partition("haechi-etcd ")[2] for call in shell.calls]


@pytest.fixture
def shell():
    host = FakeHosts().add("dev-a", name="cp-1")
    host.on(lambda command: "member list" in command, MEMBERS)
    return host


async def test_members_are_read(shell):
    first, second = await etcd.members(shell)
    assert first.id == "f3312e3f198f704b"
    assert int(first.id, 16) == 17523838473621958731
    assert (first.name, first.learner) == ("cp-1", False)
    assert (second.name, second.learner) == ("", True)
    assert second.is_at("192.168.0.10")
    assert not second.is_at("192.168.0.1")


async def test_one_that_never_came_up_is_forgotten_by_its_address(shell):
    shell.on(lambda command: "member remove" in command)
    assert await etcd.forget_member(shell, name="cp-2", address="192.168.0.10")
    assert asked(shell)[0].startswith("etcdctl ")
    assert asked(shell)[-1].endswith("member remove b")
    assert all(call.root for call in shell.calls)


async def test_forgetting_somebody_unknown_changes_nothing(shell):
    assert not await etcd.forget_member(shell, name="cp-9", address="192.168.0.99")
    assert len(shell.calls) == 1


async def test_a_moved_member_is_announced_once(shell):
    shell.on(lambda command: "member update" in command)
    assert await etcd.move_member(shell, name="cp-1", address="192.168.0.77")
    assert asked(shell)[-1].endswith(
        "member update f3312e3f198f704b --peer-urls=https://192.168.0.77:2380"
    )
    assert not await etcd.move_member(shell, name="cp-1", address="192.168.0.9")


async def test_no_majority_is_said_as_such(shell):
    said = json.dumps({"level": "warn", "error": "rpc error: etcdserver: no leader"})
    shell.on(lambda command: "member remove" in command, stderr=said, status=1)
    with pytest.raises(EtcdQuorumLost) as caught:
        await etcd.forget_member(shell, name="cp-1", address="192.168.0.9")
    assert caught.value.data["host"] == "cp-1"
    assert "no leader" in caught.value.data["reason"]


async def test_other_failures_keep_the_tools_words(shell):
    shell.on(lambda command: "endpoint" in command, stderr="Error: unhealthy cluster\n", status=1)
    assert not await etcd.is_healthy(shell)
    shell.on(
        lambda command: "snapshot save" in command,
        stderr="Error: open /x: no space left on device\n",
        status=1,
    )
    with pytest.raises(EtcdFailed) as caught:
        await etcd.save_snapshot(shell, "/x")
    assert caught.value.data["reason"] == "open /x: no space left on device"


async def test_a_snapshot_is_looked_at(shell):
    shell.on(lambda command: "snapshot save" in command)
    facts = {"hash": 1, "revision": 42, "totalKey": 7, "totalSize": 2048}
    shell.on(lambda command: "snapshot status" in command, f"note\n{json.dumps(facts)}\n")
    assert await etcd.save_snapshot(shell, "/x") == etcd.SnapshotFacts(42, 7, 2048)


def test_every_member_is_restored_into_the_same_cluster():
    peers = {"cp-2": "fd00::2", "cp-1": "192.168.0.9"}
    made = etcd.restore_arguments("/s.db", "/var/lib/etcd/new", "cp-1", peers, "op-1")
    assert "--initial-cluster=cp-1=https://192.168.0.9:2380,cp-2=https://[fd00::2]:2380" in made
    assert "--initial-advertise-peer-urls=https://192.168.0.9:2380" in made
    assert "--initial-cluster-token=op-1" in made


async def test_a_healthy_answer(shell):
    shell.on(lambda command: "endpoint health" in command)
    assert await etcd.is_healthy(shell, address="fd00::1")
    assert "--endpoints=https://[fd00::1]:2379" in asked(shell)[-1]


@pytest.mark.parametrize("script", [etcd.TOOL_SCRIPT, etcd.SWAP_SCRIPT, restoring.PUT_BACK_SCRIPT])
def test_scripts_are_shell(script):
    subprocess.run(["/bin/sh", "-n", "-c", script], check=True, timeout=60)


class Disk:
    """etcd's folder on a host, and the scripts that change it."""

    def __init__(self, folder):
        self.data = folder / "etcd"
        self.kept = folder / "etcd.before-restore"
        (self.data / "member").mkdir(parents=True)
        (self.data / "member" / "wal").write_text("old")

    def restore(self, word, run):
        made = self.data / ".made" / "member"
        made.mkdir(parents=True)
        (made / "wal").write_text(word)
        self._run(etcd.SWAP_SCRIPT, self.data, self.data / ".made", run)
        assert list(self.data.iterdir()) == [self.data / "member"]

    def put_back(self, run):
        self._run(restoring.PUT_BACK_SCRIPT, self.data, self.kept, run)

    @property
    def holds(self):
        return (self.data / "member" / "wal").read_text()

    def _run(self, script, *words):
        argv = ["/bin/sh", "-c", script, "x", *map(str, words)]
        subprocess.run(argv, check=True, timeout=60)


@pytest.fixture
def disk(tmp_path):
    return Disk(tmp_path)


def test_the_old_data_is_kept_once(disk):
    disk.restore("first", "op-1")
    disk.restore("again", "op-1")
    assert disk.holds == "again"
    assert (disk.kept / "member" / "wal").read_text() == "old"
    disk.put_back("op-1")
    assert disk.holds == "old" and not disk.kept.exists()
    disk.put_back("op-1")
    assert disk.holds == "old"


def test_what_an_earlier_restore_left_is_no_data_of_before(disk):
    """Its tidying did not reach this host; the cluster has lived on with what it restored."""
    disk.restore("first", "op-1")
    (disk.data / "member" / "wal").write_text("lived on")
    disk.restore("second", "op-2")
    assert (disk.kept / "member" / "wal").read_text() == "lived on"
    disk.put_back("op-2")
    assert disk.holds == "lived on"


def test_a_restore_that_did_not_come_so_far_puts_nothing_back(disk):
    disk.restore("first", "op-1")
    (disk.data / "member" / "wal").write_text("lived on")
    disk.put_back("op-2")
    assert disk.holds == "lived on"


def test_the_last_line_of_a_tool_counts():
    assert etcd._reason(Ran(1, "", "")) == ""
    assert etcd._reason(Ran(1, "", '{"error": "x"\n{"level": "info"}\nplain')) == "plain"


@pytest.mark.parametrize("said", ["", "garbage", '{"members": [{"ID": "x"}]}', '{"members": 3}'])
async def test_a_tool_that_prints_something_else_is_an_error_of_that_host(said):
    host = FakeHosts().add("dev-a", name="cp-1")
    host.on(lambda command: "member list" in command, said)
    with pytest.raises(EtcdFailed) as failed:
        await etcd.members(host)
    assert failed.value.data["host"] == "cp-1"
