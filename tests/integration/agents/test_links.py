"""Links of agents: who gets in, what frames lead to, what ends a link."""

import asyncio

import msgspec
import pytest

from haechi.core.access import SYSTEM
from haechi.domains.agents.model import LinkLost, NotConnected
from haechi.errors import AppError, Overloaded
from haechi.protocol import commands
from haechi.protocol.desired import (
    ContainerStatus,
    MediaStatus,
    ObservedState,
    Peer,
    StreamStatus,
)
from haechi.protocol.frames import EnrolIn, Pong, Results, Samples
from haechi.protocol.problems import EngineAway
from haechi.protocol.results import AgentResult, Result
from haechi.protocol.samples import Sample
from haechi.testing.waiting import eventually

INFO = commands.EngineInfo(engine="docker", platform="linux/amd64")


async def answer_info(agent, command):
    return INFO


async def test_welcome_desired_and_applied(site):
    device = await site.device("gate")

    async def peers(device_id):
        return [Peer(device_id, ["10.0.0.1"])]

    site.agents.register_section("peers", peers)
    await site.agents.start()
    agent = await site.connect(device, addresses=["10.0.0.5"])
    await agent.until(lambda: agent.desired)
    assert agent.desired.revision == 1
    assert agent.desired.peers == [Peer(device, ["10.0.0.1"])]
    assert await site.agents.wait_applied(device, 1, 5)
    seen = site.agents.agent(device)
    assert (seen.presence, seen.connected, seen.applied_revision) == ("ok", True, 1)
    assert (await site.inventory.devices.get(device)).seen_address == "10.0.0.9"


async def test_desired_changes_are_pushed_once_and_revisions_survive_a_restart(site):
    device = await site.device("gate")
    content = ["a"]

    async def peers(device_id):
        return [Peer(device_id, list(content))]

    site.agents.register_section("peers", peers)
    await site.agents.start()
    agent = await site.connect(device)
    await agent.until(lambda: agent.desired and agent.desired.revision == 1)
    content.append("b")
    for _ in range(20):
        site.agents.changed(device)
    await agent.until(lambda: agent.desired.revision == 2)
    assert await site.agents.push(device) == 2  # nothing changed: same revision
    await site.agents.close()

    site.agents = site.rebuild()
    site.agents.register_section("peers", peers)
    await site.agents.start()
    again = await site.connect(device, desired_revision=2)
    assert again.welcome.desired_revision == 2
    content.append("c")
    site.agents.changed(device)
    await again.until(lambda: again.desired and again.desired.revision == 3)


@pytest.mark.parametrize(("protocol", "code"), [(99, "agents.too_new"), (-1, "agents.too_old")])
async def test_protocol_out_of_range_is_refused(site, protocol, code):
    await site.agents.start()
    device = await site.device("gate")
    agent = await site.connect(device, protocol=protocol)
    assert agent.refused.error["code"] == code
    assert not site.agents.is_connected(device)
    assert site.agents.agent(device).refusal["code"] == code


async def test_previous_protocol_is_accepted(site):
    await site.agents.start()
    device = await site.device("gate")
    agent = await site.connect(device, protocol=0)
    assert agent.welcome is not None


async def test_identity_is_the_certificates(site):
    await site.agents.start()
    device, other = await site.device("gate"), await site.device("yard")
    agent = await site.dial(device, other)
    assert agent.refused.error["code"] == "agents.wrong_device"
    assert not site.agents.is_connected(other)


async def test_unknown_device_is_refused(site):
    await site.agents.start()
    agent = await site.connect("dev-aaaaaaaaaaaaaaaa")
    assert agent.refused.error["code"] == "core.not_found"


async def test_a_clone_is_refused_and_shown(site):
    await site.agents.start()
    device = await site.device("gate")
    first = await site.connect(device, machine_id="m-1")
    assert first.welcome
    second = await site.connect(device, machine_id="m-2", host_name="copy")
    assert second.refused.error["code"] == "agents.clone"
    assert site.agents.agent(device).refusal["data"]["host_name"] == "copy"
    assert site.agents.is_connected(device)
    assert not first.closed.is_set()


async def test_a_second_agent_is_refused_while_the_first_answers(site):
    await site.agents.start()
    device = await site.device("gate")
    first = await site.connect(device)
    second = await site.connect(device)
    assert first.welcome
    assert second.refused.error["code"] == "agents.already_connected"


async def test_a_half_open_socket_is_replaced(site):
    await site.agents.start()
    device = await site.device("gate")
    first = await site.connect(device)
    first.answer_pings = False
    second = await site.connect(device, boot_id="boot-2")
    assert second.welcome
    await first.until(first.closed.is_set)
    assert site.agents.agent(device).boot_id == "boot-2"


async def test_missed_pings_close_the_link_and_presence_follows(site):
    told = []
    await site.agents.start()
    site.agents.on_presence(lambda device_id, presence, reason: told.append(presence))
    device = await site.device("gate")
    agent = await site.connect(device)
    agent.answer_pings = False
    await agent.until(agent.closed.is_set, timeout_s=60)
    await eventually(lambda: told == ["ok", "silent", "dead"])
    back = await site.connect(device)
    assert back.welcome
    await eventually(lambda: told[-1] == "ok")


async def test_neighbours_word_makes_it_dead_at_once(site):
    told = []
    site.agents.use_neighbour_word(lambda device_id: False)
    await site.agents.start()
    site.agents.on_presence(lambda device_id, presence, reason: told.append((presence, reason)))
    device = await site.device("gate")
    agent = await site.connect(device)
    await agent.close()
    await eventually(lambda: ("dead", "neighbours_agree") in told)
    assert ("silent", "no_word") not in told


async def test_samples_results_and_ack_after_commit(site):
    seen, stored, listened = [], asyncio.Event(), []

    async def keep(device_id, queue_id, from_seq, rows, lost):
        await stored.wait()
        return from_seq + len(rows) - 1

    site.agents.on_samples(lambda device_id, rows, backfill: seen.append((device_id, rows)))
    site.agents.on_results(keep)
    site.agents.listen_results(lambda device_id, rows: listened.append(len(rows)))
    await site.agents.start()
    device = await site.device("gate")
    agent = await site.connect(device)
    row = AgentResult(Result(), "dep-a", 1, 2, "boot-1")
    await agent.send(Results("queue-1", 10, [row, row]))
    sample = Sample("boot-1", 1, 2, 3, 0.5, 1, 2, 3)
    await agent.send(Samples([sample]))
    await eventually(lambda: seen == [(device, [sample])])  # not held up by the commit
    assert agent.acks == []
    stored.set()
    await agent.until(lambda: agent.acks)
    assert agent.acks[0].results_through == 11
    await eventually(lambda: listened == [2])


async def test_a_few_results_are_acknowledged_together(site):
    async def keep(device_id, queue_id, from_seq, rows, lost):
        return from_seq + len(rows) - 1

    stored = []
    site.agents.on_results(keep)
    site.agents.listen_results(lambda device_id, rows: stored.append(len(rows)))
    agent = await site.connect(await site.device("gate"))  # the server's clock does not tick yet
    row = AgentResult(Result(), "dep-a", 1, 2, "boot-1")
    await agent.send(Results("queue-1", 1, [row]))
    await agent.send(Results("queue-1", 2, [row]))
    await eventually(lambda: len(stored) == 2)
    await agent.send(Results("queue-1", 3, [row]))
    await agent.until(lambda: agent.acks)
    await agent.send(Results("queue-1", 4, [row] * 100))
    await agent.until(lambda: len(agent.acks) == 2)
    await agent.send(Results("queue-1", 104, [row]))
    await eventually(lambda: len(stored) == 5)
    await site.agents.start()
    await agent.until(lambda: len(agent.acks) == 3)
    assert [ack.results_through for ack in agent.acks] == [3, 103, 104]


async def test_a_node_agent_says_whether_its_runtime_runs_while_it_is_there(site):
    old = []
    site.agents.on_samples(lambda _device, rows, backfill: old.extend(rows if backfill else ()))
    await site.agents.start()
    device = await site.device("gate")
    assert site.agents.runtime_runs(device) is None
    agent = await site.connect(device)
    for seq, runs in enumerate((True, False, None), start=1):
        await agent.send(Samples([Sample("boot-1", seq, 2, 3, 0.5, 1, 2, 3, runtime=runs)]))
        await eventually(lambda runs=runs: site.agents.runtime_runs(device) is runs)
    await agent.send(Samples([Sample("boot-1", 4, 2, 3, 0.5, 1, 2, 3, runtime=False)]))
    await eventually(lambda: site.agents.runtime_runs(device) is False)
    # What it says of the past is no word on now.
    await agent.send(Samples([Sample("boot-1", 0, 2, 3, 0.5, 1, 2, 3, runtime=True)], True))
    await eventually(lambda: old)
    assert site.agents.runtime_runs(device) is False
    await agent.close()
    await eventually(lambda: site.agents.runtime_runs(device) is None)


async def test_results_wait_while_the_store_is_overloaded(site):
    answers = iter([Overloaded(retry_after_s=0), Overloaded(retry_after_s=0), None])

    async def keep(device_id, queue_id, from_seq, rows, lost):
        error = next(answers)
        if error:
            raise error
        return from_seq

    site.agents.on_results(keep)
    await site.agents.start()
    agent = await site.connect(await site.device("gate"))
    await agent.send(Results("queue-1", 1, [AgentResult(Result(), "dep-a", 1, 2, "boot-1")]))
    await agent.until(lambda: agent.acks)


async def test_state_is_kept_over_a_restart(site):
    states = []
    site.agents.on_state(lambda device_id, state, before: states.append((state, before)))
    await site.agents.start()
    device = await site.device("gate")
    agent = await site.connect(device)
    await agent.report(deployments=[ContainerStatus("dep-a", "running")])
    await eventually(lambda: any(s.deployments for s, _ in states))
    await site.agents.close()
    site.agents = site.rebuild()
    await site.agents.start()
    observed = site.agents.observed(device)
    assert isinstance(observed, ObservedState)
    assert observed.deployments[0].state == "running"
    assert site.agents.agent(device).presence in {"silent", "dead"}


async def test_command_answer_chunks_and_errors(site):
    await site.agents.start()
    device = await site.device("gate")
    with pytest.raises(NotConnected):
        await site.agents.command(device, commands.ENGINE_INFO, commands.AskEngine())
    agent = await site.connect(device)
    agent.on_command["engine.info"] = answer_info
    assert await site.agents.command(device, commands.ENGINE_INFO, commands.AskEngine()) == INFO

    async def pull(agent, command):
        for done in (1, 2):
            await agent.chunk(command, commands.PullProgress(done, 2))
        return commands.PulledImage("sha256:x")

    agent.on_command["image.pull"] = pull
    chunks = []
    pulled = await site.agents.command(
        device, commands.IMAGE_PULL, commands.PullImage("x"), on_chunk=chunks.append
    )
    assert (pulled.image_id, [c.done_bytes for c in chunks]) == ("sha256:x", [1, 2])

    async def away(agent, command):
        raise EngineAway(detail="no socket")

    agent.on_command["engine.info"] = away
    with pytest.raises(EngineAway) as caught:
        await site.agents.command(device, commands.ENGINE_INFO, commands.AskEngine())
    assert caught.value.data == {"detail": "no socket"}
    with pytest.raises(AppError) as unknown:
        await site.agents.command(device, commands.MEDIA_STILL, commands.TakeStill("cam-a"))
    assert unknown.value.code == "agent.unknown_verb"

    async def nonsense(agent, command):
        return commands.CheckedImage(present=True)

    agent.on_command["engine.info"] = nonsense
    with pytest.raises(AppError) as bad:
        await site.agents.command(device, commands.ENGINE_INFO, commands.AskEngine())
    assert bad.value.code == "agents.bad_answer"


async def test_commands_are_cancelled_late_and_lost(site):
    await site.agents.start()
    device = await site.device("gate")
    agent = await site.connect(device)

    async def never(agent, command):
        await asyncio.Event().wait()
        return INFO

    agent.on_command["engine.info"] = never
    ask = commands.AskEngine()
    task = site.tasks.spawn("ask", site.agents.command(device, commands.ENGINE_INFO, ask))
    await agent.until(lambda: agent.commands)
    task.cancel()
    await agent.until(lambda: agent.cancelled == [agent.commands[0].id])

    lost = site.tasks.spawn("ask", site.agents.command(device, commands.ENGINE_INFO, ask))
    await agent.until(lambda: len(agent.commands) == 2)
    await agent.close()
    with pytest.raises(LinkLost):
        await lost


@pytest.mark.parametrize("data", [b"\xff\xff", b"", msgspec.msgpack.encode({"t": "pong"})])
async def test_bad_frames_close_this_link_only(site, data):
    await site.agents.start()
    agent = await site.connect(await site.device("gate"))
    other = await site.connect(await site.device("yard"))
    await agent.socket.send(data)
    await agent.until(agent.closed.is_set)
    assert agent.socket.closed[1] == "bad_frame"
    assert not other.closed.is_set()


async def test_bad_first_frame_is_refused(site):
    await site.agents.start()
    device = await site.device("gate")
    agent = await site.connect(device)
    await agent.send(agent.hello)
    await agent.until(agent.closed.is_set)
    assert agent.socket.closed[1] == "second_hello"


async def test_a_flood_ends_the_link(site):
    await site.agents.start()
    agent = await site.connect(await site.device("gate"))
    for number in range(6000):
        if agent.closed.is_set() or agent.socket.closed:
            break
        await agent.send(Pong(number, 0, 0))
    await agent.until(agent.closed.is_set)
    assert agent.socket.closed[1] == "flood"


async def test_enrol_revoke_and_enrol_anew(site):
    from haechi.core.pki import make_key_and_csr

    await site.agents.start()
    device = await site.device("gate")
    invited = await site.agents.invite_device(device, SYSTEM)
    assert invited.token.reveal() in invited.command.reveal()
    assert site.ca.fingerprint in invited.command.reveal()
    assert (await site.inventory.devices.get(device)).enrolment == "pending"
    _, csr = make_key_and_csr(device)
    body = EnrolIn(invited.token.reveal(), csr, "m-1", "host", "0.1")
    out = await site.agents.enrol_device(body, "10.0.0.9")
    assert out.device_id == device
    assert (await site.inventory.devices.get(device)).enrolment == "enrolled"
    with pytest.raises(AppError):
        await site.agents.enrol_device(body, "10.0.0.9")

    agent = await site.connect(device, machine_id="m-1")
    await site.agents.revoke_device(device, SYSTEM)
    await agent.until(agent.closed.is_set)
    assert (await site.inventory.devices.get(device)).enrolment == "revoked"

    # The same device, installed anew: a new enrolment binds the new machine.
    invited = await site.agents.invite_device(device, SYSTEM)
    body = EnrolIn(invited.token.reveal(), csr, "m-2", "host", "0.1")
    await site.agents.enrol_device(body, "10.0.0.9")
    assert (await site.connect(device, machine_id="m-2")).welcome


async def test_a_fault_while_storing_ends_the_link_so_that_the_rows_come_again(site):
    async def broken(device_id, queue_id, from_seq, rows, lost):
        raise RuntimeError("disk on fire")

    site.agents.on_results(broken)
    await site.agents.start()
    agent = await site.connect(await site.device("gate"))
    await agent.send(Results("queue-1", 1, [AgentResult(Result(), "dep-a", 1, 2, "boot-1")]))
    await agent.until(agent.closed.is_set)
    assert agent.socket.closed[1] == "internal_fault"
    assert agent.acks == []


async def test_the_servers_own_absence_is_nobodys_silence(site):
    import time

    told = []
    site.agents = site.rebuild(1.8, 2.2)
    await site.agents.start()
    site.agents.on_presence(lambda device_id, presence, reason: told.append(presence))
    agent = await site.connect(await site.device("gate"))
    await agent.until(lambda: agent.pings)
    time.sleep(2.5)  # the whole process stands still: longer than dead_after
    await agent.until(lambda: agent.pings >= 4)
    assert told == ["ok"]
    assert not agent.closed.is_set()


async def test_devices_are_pinged_and_judged_while_the_disk_is_slow(site):
    told = []
    await site.agents.start()
    site.agents.on_presence(lambda device_id, presence, reason: told.append(presence))
    agent = await site.connect(await site.device("gate"))
    async with site.db.write():  # whoever writes now waits
        before = agent.pings
        await agent.until(lambda: agent.pings >= before + 5, timeout_s=30)
        agent.answer_pings = False
        await eventually(lambda: told[-2:] == ["silent", "dead"], timeout_s=30)


async def test_only_the_home_device_speaks_for_a_camera(site):
    told = []
    site.bus.on("states", lambda _, data: told.append(data))
    site.inventory.watched_by(site.agents)
    await site.agents.start()
    home, other = await site.device("gate"), await site.device("neighbour")
    fields = {"name": "cam", "url": "rtsp://127.0.0.1/a", "device_id": home}
    camera = (await site.inventory.cameras.create(fields, by=SYSTEM)).id
    at_home, elsewhere = await site.connect(home), await site.connect(other)

    def turns():
        return [data["state"] for data in told if data["kind"] == "camera" and "state" in data]

    assert site.agents.camera_state(camera, home) == "unknown"
    good = StreamStatus(camera, online=True, codec="h264", width=640, height=360, fps=10.0)
    await at_home.report(media=MediaStatus(running=True, streams=[good]))
    await eventually(lambda: site.agents.camera_state(camera, home) == "ok")
    await eventually(turns)
    # The neighbour relays it and nobody watches there; and it tells of cameras that do not exist.
    idle = [StreamStatus(name, online=False) for name in (camera, "cam-aaaaaaaaaaaaaaaa")]
    forged = StreamStatus(camera, online=True, codec="evil")
    await elsewhere.report(media=MediaStatus(running=True, streams=[*idle, forged]))
    await at_home.report(media=MediaStatus(running=True, streams=[good]), addresses=["10.0.0.1"])
    await eventually(lambda: site.agents.addresses(home) == ["10.0.0.1"])
    await eventually(lambda: site.agents.observed(other) is not None)
    assert site.agents.camera_state(camera, home) == "ok"
    assert turns() == ["ok"]

    async def codec():
        return (await site.inventory.cameras.get(camera)).streams.get("main", {}).get("codec")

    assert await eventually(codec) == "h264"


async def test_a_device_without_an_agent_that_does_not_answer_is_dead(site):
    told = []
    site.agents.use_reason_word(lambda device_id: "sshd_dead")
    await site.agents.start()
    site.agents.on_presence(lambda device_id, presence, reason: told.append((presence, reason)))
    device = await site.device("gate")
    # Never heard: silent at once, for there is nothing that it would have to do first.
    site.agents.note_silence(device)
    assert site.agents.device_presence(device) == "silent"
    await eventually(lambda: site.agents.device_presence(device) == "dead")
    site.agents.note_word(device)
    site.agents.note_silence(device)
    assert site.agents.device_presence(device) == "ok"
    assert told == [("silent", "sshd_dead"), ("dead", "sshd_dead"), ("ok", "connected")]
    # Nobody asks any more: nothing is said of it.
    site.agents.forget_word(device)
    agent = site.agents.agent(device)
    assert (agent.presence, agent.presence_reason) == ("new", "never_called")


async def test_of_a_device_with_an_agent_only_that_is_heard_until_it_is_revoked(site):
    await site.agents.start()
    device = await site.device("gate")
    agent = await site.connect(device)
    await agent.close()
    await eventually(lambda: site.agents.device_presence(device) == "dead")
    for note in (site.agents.note_silence, site.agents.forget_word, site.agents.note_word):
        note(device)
        assert site.agents.device_presence(device) == "dead"
    await site.agents.revoke_device(device, SYSTEM)
    assert site.agents.last_word_s(device) is None
    site.agents.note_word(device)
    assert site.agents.device_presence(device) == "ok"


async def test_a_device_whose_agent_was_removed_and_that_nobody_asks_is_not_dead(site):
    told = []
    site.agents.on_presence(lambda device_id, presence, reason: told.append((device_id, presence)))
    await site.agents.start()
    gate, yard = await site.device("gate"), await site.device("yard")
    agent, other = await site.connect(gate), await site.connect(yard)
    await site.agents.revoke_device(gate, SYSTEM)
    assert site.agents.device_presence(gate) == "new"
    await agent.until(agent.closed.is_set)
    await other.close()
    # As much later as death takes.
    await eventually(lambda: site.agents.device_presence(yard) == "dead")
    assert [presence for device_id, presence in told if device_id == gate] == ["ok", "new"]


async def test_a_device_whose_agent_was_removed_is_not_dead_after_a_server_start(site):
    await site.agents.start()
    device = await site.device("gate")
    agent = await site.connect(device)
    await site.agents.revoke_device(device, SYSTEM)
    await agent.until(agent.closed.is_set)
    # Asked over SSH for a while, until its label was taken away.
    site.agents.note_word(device)
    assert site.agents.device_presence(device) == "ok"
    site.agents.forget_word(device)
    await site.agents.close()
    site.agents = site.rebuild()
    await site.agents.start()
    assert site.agents.device_presence(device) == "new"
    assert site.agents.device_last_seen_at(device) is not None
    site.agents.note_silence(device)
    assert site.agents.device_presence(device) == "silent"
