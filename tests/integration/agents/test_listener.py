"""The agents listener for real: TLS by the site CA, enrolment, a WebSocket with a certificate."""

import asyncio
import json
from contextlib import asynccontextmanager

import httpx2
import pytest
import websockets
from websockets.exceptions import ConnectionClosed

from haechi.adapters.engine_agent import AgentEngine
from haechi.core.access import SYSTEM
from haechi.core.pki import make_key_and_csr
from haechi.core.trust import client_context, server_name
from haechi.domains.agents.ports import SocketClosed
from haechi.protocol import commands
from haechi.protocol.frames import MAX_FRAME_BYTES, Results
from haechi.protocol.results import AgentResult, Result
from haechi.testing.agent_link import ScriptedAgent
from haechi.testing.waiting import eventually
from haechi.web.agents import create_agents_app
from haechi.web.security import Gate
from haechi.web.server import Listener, Servers
from haechi.web.tls import HttpProtocol, ListenerTls, WebSocketProtocol

SERVER_ID = "sit-aaaaaaaaaaaaaaaa"


class RealSocket:
    def __init__(self, connection):
        self.connection = connection
        self.code = None

    async def send(self, data):
        await self.connection.send(data)

    async def recv(self):
        try:
            return await self.connection.recv()
        except ConnectionClosed as error:
            self.code = error.rcvd.code if error.rcvd else None
            raise SocketClosed from error

    async def close(self):
        await self.connection.close()


class Door:
    def __init__(self, site, port):
        self.site, self.port = site, port

    @asynccontextmanager
    async def http(self, context):
        async with httpx2.AsyncClient(
            base_url=f"https://127.0.0.1:{self.port}", verify=context, trust_env=False
        ) as client:
            yield client

    async def enrol(self, device_id, machine_id="m-1"):
        """Certificate files of an enrolled device."""
        invited = await self.site.agents.invite_device(device_id, SYSTEM)
        key, csr = make_key_and_csr(device_id)
        body = {
            "token": invited.token.reveal(),
            "csr_pem": csr,
            "machine_id": machine_id,
            "host_name": "host",
            "agent_version": "0.1",
        }
        async with self.http(client_context(self.site.ca.pem)) as client:
            answer = await client.post("/agent/v1/enrol", json=body)
        assert answer.status_code == 200, answer.text
        folder = self.site.path / device_id
        folder.mkdir(exist_ok=True)
        (folder / "key.pem").write_text(key)
        (folder / "cert.pem").write_text(answer.json()["certificate_pem"])
        return client_context(
            ca_pem=self.site.ca.pem,
            certificate_file=folder / "cert.pem",
            key_file=folder / "key.pem",
        )

    async def connect(self, context, device_id, **hello):
        connection = await websockets.connect(
            f"wss://127.0.0.1:{self.port}/agent/v1/connect",
            ssl=context,
            server_hostname=server_name(SERVER_ID),
            max_size=None,
            proxy=None,
        )
        agent = ScriptedAgent(RealSocket(connection), device_id, machine_id="m-1", **hello)
        await agent.start()
        self.site.links.append(agent)
        return agent


@pytest.fixture
async def door(site):
    await site.agents.start()
    gate = Gate(authenticator=site.authenticator, allowed_origins=[])
    app = create_agents_app(site.agents, lambda connection: gate.identify(connection.scope))
    tls = ListenerTls(site.ca, "agents", lambda: ["127.0.0.1"], clients="optional")
    listener = Listener(app, "127.0.0.1:0", tls.context, HttpProtocol, WebSocketProtocol)
    servers = Servers([listener], stopping=lambda: None)
    running = site.tasks.spawn("listener", servers.run())
    await eventually(lambda: servers.started)
    yield Door(site, servers.addresses[0][1])
    for link in site.links:
        await link.close()
    servers.stop()
    await running


async def test_enrol_connect_command_over_tls(site, door):
    device = await site.device("gate")
    context = await door.enrol(device)
    agent = await door.connect(context, device)
    assert agent.welcome.server_id == SERVER_ID
    engine = AgentEngine(site.agents)

    async def info(agent, command):
        return commands.EngineInfo("docker", platform="linux/amd64")

    async def logs(agent, command):
        for number in range(3):
            await agent.chunk(command, commands.LogLines([commands.LogLine(number, f"l{number}")]))
        return commands.LogsEnded(3)

    async def still(agent, command):
        return commands.Still(b"\xff\xd8" + bytes(2_000_000), 5)

    agent.on_command |= {"engine.info": info, "container.logs": logs, "media.still": still}
    assert (await engine.info(device)).platform == "linux/amd64"
    lines = [line.text async for p in engine.logs(device, "dep-a") for line in p.lines]
    assert lines == ["l0", "l1", "l2"]
    picture = await site.agents.command(device, commands.MEDIA_STILL, commands.TakeStill("cam-1"))
    assert len(picture.jpeg) == 2_000_002
    await eventually(lambda: site.agents.agent(device).rtt_ms is not None)
    assert site.agents.agent(device).clock == "ok"


async def test_a_follower_that_leaves_cancels_the_command(site, door):
    device = await site.device("gate")
    agent = await door.connect(await door.enrol(device), device)

    async def logs(agent, command):
        await agent.chunk(command, commands.LogLines([commands.LogLine(1, "one")]))
        await asyncio.Event().wait()
        return commands.LogsEnded()

    agent.on_command["container.logs"] = logs
    stream = AgentEngine(site.agents).logs(device, "dep-a", follow=True)
    async for piece in stream:
        assert piece.lines[0].text == "one"
        break
    await stream.aclose()
    await agent.until(lambda: agent.cancelled)


async def test_without_a_certificate_only_enrolment_is_open(site, door):
    context = client_context(site.ca.pem)
    async with door.http(context) as client:
        assert (await client.get("/agent/v1/ca")).text == site.ca.pem
        refused = await client.post("/agent/v1/renew", json={"csr_pem": "x"})
        assert refused.json()["code"] == "auth.not_signed_in"
        bad = await client.post("/agent/v1/enrol", content=b"{")
        assert bad.json()["code"] == "core.bad_request"
        large = await client.post("/agent/v1/enrol", content=b"x" * 100_000)
        assert large.json()["code"] == "core.bad_request"
        wrong = json.dumps(
            dict.fromkeys(("token", "csr_pem", "machine_id", "host_name", "agent_version"), "x")
        )
        refused = await client.post("/agent/v1/enrol", content=wrong)
        assert refused.json()["code"].startswith("auth.")
        assert (await client.get("/api/v1/devices")).status_code == 404
    agent = await door.connect(context, await site.device("gate"))
    assert agent.refused.error["code"] == "auth.not_signed_in"
    await agent.until(agent.closed.is_set)
    assert agent.socket.code == 4403


async def test_renewal_keeps_the_device_and_revocation_ends_it(site, door):
    device = await site.device("gate")
    context = await door.enrol(device)
    _, csr = make_key_and_csr(device)
    async with door.http(context) as client:
        renewed = await client.post("/agent/v1/renew", json={"csr_pem": csr})
    assert renewed.json()["device_id"] == device
    agent = await door.connect(context, device)
    await site.agents.revoke_device(device, SYSTEM)
    await agent.until(agent.closed.is_set)
    again = await door.connect(context, device)
    assert again.refused is not None
    assert again.welcome is None


async def test_oversized_frames_end_the_link_only(site, door):
    device = await site.device("gate")
    agent = await door.connect(await door.enrol(device), device)
    row = AgentResult(Result(attributes={"x": "y" * MAX_FRAME_BYTES}), "dep-a", 1, 2, "boot-1")
    with pytest.raises(ConnectionClosed):
        await agent.send(Results("queue-1", 1, [row]))
        await agent.until(agent.closed.is_set)
        raise ConnectionClosed(None, None)
    await eventually(lambda: not site.agents.is_connected(device))


async def test_text_messages_are_bad_frames(site, door):
    device = await site.device("gate")
    agent = await door.connect(await door.enrol(device), device)
    await agent.socket.connection.send("hello")
    await agent.until(agent.closed.is_set)
    assert agent.socket.code == 1007
