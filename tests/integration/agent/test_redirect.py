"""A package of the old days, unchanged, posting to a fixed address: it reaches the intake.

Real Docker bridge, real firewall rules, real agent. The old address is of the benchmark range
(RFC 2544); the bridge is internal, so nothing could ever leave the machine.
"""

import os
import shutil
import subprocess

import pytest

from haechi.agent.redirect import chain_name
from haechi.protocol import commands as c
from haechi.protocol.desired import DesiredState, Redirect

from .conftest import Edge, ScriptedServer, holds
from .test_containers import image, spec_of, token_of  # noqa: F401 - a fixture

pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(
        os.geteuid() != 0 or shutil.which("iptables") is None, reason="needs root and iptables"
    ),
]

OLD = "198.18.77.1"
PACKAGE = f"""
import json, sys, time, urllib.request

def post(url, body):
    data = json.dumps(body).encode()
    with urllib.request.urlopen(url, data, timeout=2) as answer:
        return json.load(answer)

def tried(port):
    try:
        post(f"http://{OLD}:{{port}}/usage", {{}})
    except OSError:
        return "refused"
    return "reached"

while True:
    try:
        reply = post("http://{OLD}:5231/add_newAiResult", {{
            "eid": "0x01", "sid": "0xs01", "time": 202511201414, "version": "0.01v",
            "ainame": "WeatherAI", "class": 3, "class_prob": 0.7}})
    except OSError:
        sys.exit("receiver is away")  # as old clients do
    print(reply, "another port:", tried(5232), flush=True)
    time.sleep(0.3)
"""


def rules_of(table: str, chain: str) -> list[str]:
    done = subprocess.run(
        ["iptables", "-w", "-t", table, "-S", chain], capture_output=True, text=True, check=False
    )
    return done.stdout.splitlines()


async def test_an_old_package_reaches_the_intake_by_its_fixed_address(
    server: ScriptedServer,
    docker_edge: Edge,
    image,  # noqa: F811 - the fixture
) -> None:
    edge = docker_edge
    chain = chain_name(edge.device_id)
    server.desired = DesiredState(revision=1, redirects=[Redirect(OLD, 5231)])
    edge.start()
    await server.until(lambda: server.sockets and server.samples)
    await edge.says("old addresses lead to the intake")
    spec = spec_of(image, PACKAGE)
    await server.order("container.start", c.StartContainer(spec, token_of(spec)))
    state = DesiredState(revision=2, deployments=[spec], redirects=[Redirect(OLD, 5231)])
    await server.want(state)
    await server.until(lambda: len(server.results) >= 3, timeout_s=40)
    _, row = server.results[-1]
    assert row.deployment_id == spec.deployment_id
    assert (row.result.class_, row.result.class_prob) == ("03", 0.7)
    assert row.result.claimed["eid"] == "0x01"

    lines = await tail(server, spec.deployment_id)
    assert any("GOOD" in line for line in lines)
    assert any("another port: refused" in line for line in lines)
    assert not any("another port: reached" in line for line in lines)
    # The host's own traffic is never touched: all is about what the bridge brings in.
    assert not [rule for rule in rules_of("nat", "OUTPUT") if chain in rule or OLD in rule]
    (rule,) = [rule for rule in rules_of("nat", chain) if rule.startswith("-A")]
    assert f"-d {OLD}/32 -i br-" in rule

    await server.want(DesiredState(revision=3, deployments=[spec], redirects=[]))
    await holds(lambda: rules_of("nat", chain) == [])
    assert not [rule for rule in rules_of("nat", "PREROUTING") if chain in rule]
    count = len(server.results)
    await server.want(DesiredState(revision=4, deployments=[spec], redirects=state.redirects))
    # It ended when its receiver was away, and is restarted quietly until it is there again.
    await server.until(lambda: len(server.results) >= count + 3, timeout_s=60)


async def tail(server: ScriptedServer, deployment_id: str) -> list[str]:
    command_id, done = await server.begin("container.logs", c.ReadLogs(deployment_id, tail=50))
    await done
    return [line["text"] for chunk in server.chunks.get(command_id, []) for line in chunk["lines"]]
