"""The historic calls alone, on real hosts: from addresses and passwords to a cluster, AIs and their
results, switched, taken back, and the hosts as they were.

Everything is done by old calls. haechi's own API is asked for what they have no words for: the
operator's two settings (which base image is meant, which old addresses lead to the agents), and
what was stored.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from tests.lab.agents import ACCEPT, PROFILE, Fleet, agent_image, fleet  # noqa: F401 - fixtures

from haechi.domains.clusters.bundle.model import Bundle
from haechi.testing.packages import zip_of
from lab import Host, Site, byhand, faults, ready

OLD = "198.18.77.1"
"""Of the benchmark range (RFC 2544): nobody is there."""
PORTS = (5231, 6432)
MASTER, FIRST, SECOND = "6572a1f0c3d4e5f60718293a", "0x01", "K3bx"
"""Ids as old programs make them."""
DOCKERFILE = 'FROM python:3.11-slim\nCOPY main.py /main.py\nCMD ["python3", "-u", "/main.py"]\n'
AI = """
import json, os, sys, time, urllib.request

def post(url, body, **headers):
    headers["Content-Type"] = "application/json"
    call = urllib.request.Request(url, json.dumps(body).encode(), headers, method="POST")
    with urllib.request.urlopen(call, timeout=10) as answer:
        return answer.read().decode()

def result(ainame):
    return {"eid": "0x99", "sid": "0xs01", "time": time.strftime("%Y%m%d%H%M"),
            "version": "VERSION", "ainame": ainame, "class": CLASS, "class_prob": 0.7}

print("a camera:", bool(os.environ.get("HAECHI_CAMERA_URL")))
while True:
    usage = {"code": "0000", "username": "root", "cpu": 61.5, "memory": 41.0}
    try:
        print(post("http://OLD:5231/add_newAiResult", result("fixed address")))
        print(post("http://OLD:6432/usage", json.dumps(usage)))
    except OSError as error:
        sys.exit(f"the receiver is away: {error}")  # as old clients do
    token = {"Authorization": "Bearer " + os.environ["HAECHI_TOKEN"]}
    print(post(os.environ["HAECHI_RESULTS_URL"], result("token"), **token))
    time.sleep(0.5)
"""


# Hosts have no more than this to speak HTTP with.
SAY = """\
import socket, sys
body = sys.stdin.buffer.read()
head = f"POST {sys.argv[3]} HTTP/1.1\\r\\nHost: {sys.argv[1]}\\r\\nConnection: close\\r\\n"
head += f"Content-Type: application/json\\r\\nContent-Length: {len(body)}\\r\\n\\r\\n"
link = socket.create_connection((sys.argv[1], int(sys.argv[2])), 30)
link.sendall(head.encode() + body)
print(link.makefile().read())
"""


def package(version: str, class_: int) -> bytes:
    """As for the prototype: a Dockerfile and a program, nothing of haechi's."""
    words = {"VERSION": version, "CLASS": str(class_), "OLD": OLD}
    script = AI
    for word, value in words.items():
        script = script.replace(word, value)
    return zip_of({"weather/Dockerfile": DOCKERFILE, "weather/main.py": script})


async def enter_by_its_name(host: Host) -> None:
    """The old system logs in as the user who is called like the host."""
    name = host.hostname
    await host.shell(
        f"useradd --create-home --shell /bin/bash {name}\n"
        f"echo '{name} ALL=(ALL:ALL) ALL' > /etc/sudoers.d/{name}\n"
        "chpasswd",
        stdin=f"{name}:{host.keeper.password}\n".encode(),
    )


@dataclass
class OldProgram:
    """Knows the old addresses and nothing of haechi."""

    client: httpx2.AsyncClient
    urls: Sequence[str]

    async def post(self, path: str, body: dict[str, Any], code: str = "0000") -> dict[str, Any]:
        answer = await self.client.post(self.urls[0] + path, json=body)
        print(path, answer.text)
        return self._checked(f"POST {path}", answer, code)

    async def get(self, path: str, code: str = "0000", **query: str) -> dict[str, Any]:
        answer = await self.client.get(self.urls[1] + path, params=query)
        return self._checked(f"GET {path}", answer, code)

    async def send(self, file_name: str, version: str, content: bytes) -> dict[str, Any]:
        answer = await self.client.post(
            self.urls[0] + "/upload_edgeAi",
            files={"file": (file_name, content, "application/zip")},
            data={"version": version},
        )
        return self._checked("POST /upload_edgeAi", answer, "0000")

    async def usage(self, ref: str) -> dict[str, Any] | None:
        """What is known of the last seconds; None is told by HTTP 404."""
        answer = await self.client.get(self.urls[1] + "/usage", params={"did": ref})
        return None if answer.status_code == 404 else dict(answer.json())

    async def runs(self, ref: str) -> list[str]:
        found = await self.get("/get_deployedAis_by_node", nid=ref)
        return list(found["aid_list"])

    def _checked(self, what: str, answer: httpx2.Response, code: str) -> dict[str, Any]:
        assert answer.status_code == 200, f"{what}: {answer.status_code} {answer.text}"
        body: dict[str, Any] = answer.json()
        assert body["code"] == code, f"{what}: {body}"
        return body


def codes(reply: dict[str, Any]) -> dict[str, str]:
    return {node["id"]: node["code"] for node in reply["nodes"]}


@pytest.fixture
async def hosts(site: Site, bundle: Bundle, agent_image: str) -> list[Host]:  # noqa: F811
    made = await (await ready.by_haechi(bundle, agent=agent_image)).add(site, 3)
    for host in made:
        await enter_by_its_name(host)
    return made


async def test_a_site_by_the_historic_calls_alone(site: Site, hosts, fleet, tmp_path):  # noqa: F811
    listener = f"{site.gateway}:{PORTS[0]}"
    inbox = tmp_path / "inbox"
    made: Fleet = await fleet(
        site,
        interop__listen=[f"{site.gateway}:{port}" for port in PORTS],
        interop__allow=[str(site.subnet)],
        interop__inbox=inbox,
        interop__form_options={"accept": ACCEPT, "profile": PROFILE},
    )
    mapped = {"source": "python:3.11-slim", "target": "haechi/python:3.11-slim"}
    (await made.server.client.put("/base-images", json=mapped)).raise_for_status()
    urls = [f"http://{site.gateway}:{port}" for port in PORTS]
    async with httpx2.AsyncClient(timeout=1200, trust_env=False) as client:
        old = OldProgram(client, urls)
        assert (await client.get(urls[1] + "/")).text == "접속 완료"
        await _registered(old, made, site, hosts)
        cluster = await _formed(old, made, hosts)
        sid = await _deployed(old, made, cluster, package("0.01v", 1))
        await _said_beside_the_ai(made, hosts[1], listener)
        (inbox / "weather-01.zip").write_bytes(package("0.02v", 1))
        newer = await _optimised_by_version(old, made, sid)
        (inbox / "weather-02.zip").write_bytes(package("0.01v", 2))
        rain = await _switched_by_weather(old, made, newer)
        await _taken_back(old, made, hosts[0], rain, newer)
        await _deleted(old, hosts, cluster, [sid, newer, rain])
    page = (await made.server.client.get("/audit", params={"limit": 500})).json()["items"]
    callers = {entry["by_name"] for entry in page}
    assert f"interop {site.gateway}" in callers


async def _registered(old: OldProgram, made: Fleet, site: Site, hosts: list[Host]) -> None:
    paths = ("/add_newMaster", "/add_newDevice", "/add_newDevice")
    for path, ref, host in zip(paths, (MASTER, FIRST, SECOND), hosts, strict=True):
        body = {
            "id": ref,
            "name": f"{host.name} 정문",
            "ip": host.address,
            "host_name": host.hostname,
            "host_pwd": host.keeper.password,
        }
        if path == "/add_newDevice":
            # Nobody answers there; packages of the old days are made for a camera all the same.
            body |= {"type": 1, "url": f"rtsp://{site.gateway}:9/axis-media/media.amp"}
        assert (await old.post(path, body))["id"] == ref
        assert (await old.post(path, body))["id"] == ref
    listed = await old.get("/get_edgeList")
    assert {one["id"] for one in listed["list"]} == {MASTER, FIRST, SECOND}
    assert (await old.get("/get_edgeInfo", id=MASTER))["type"] == "Master"
    shown = await old.get("/get_selectedDeviceInfo", id=FIRST)
    assert hosts[1].keeper.password not in str(shown)
    assert (await old.get("/get_nid_by_ip", nip=hosts[2].address))["nid"] == SECOND
    assert (await old.get("/check_k8s_node"))["nodes"] == []
    # The operator's word for old addresses that are fixed in packages.
    labels = {"redirect": ", ".join(f"{OLD}:{port}" for port in PORTS)}
    for ref in (FIRST, SECOND):
        seen = await made.server.client.get(f"/devices/{ref}")
        edited = await made.server.client.patch(
            f"/devices/{ref}", json={"labels": labels}, headers={"If-Match": seen.headers["ETag"]}
        )
        assert edited.status_code == 200, edited.text


async def _formed(old: OldProgram, made: Fleet, hosts: list[Host]) -> str:
    body = {"mid": MASTER, "wlist": [{"wid": FIRST}, {"wid": SECOND}]}
    # Its caller hangs up; the work goes on, and the same call joins it.
    with pytest.raises(httpx2.ReadTimeout):
        await old.client.post(old.urls[0] + "/add_newEdgeCluster", json=body, timeout=3)
    formed = await old.post("/add_newEdgeCluster", body)
    assert codes(formed) == {MASTER: "0000", FIRST: "0000", SECOND: "0000"}
    cluster: str = formed["id"]
    again = await old.post("/add_newEdgeCluster", body)
    assert (again["id"], codes(again)) == (cluster, codes(formed))
    other = {"mid": MASTER, "wlist": [{"wid": FIRST}]}
    await old.post("/add_newEdgeCluster", other, code="0003")
    operations = (await made.server.client.get("/operations", params={"limit": 500})).json()
    kinds = [row["kind"] for row in operations["items"]]
    assert kinds.count("form_cluster") == 1
    assert formed["operation_id"] in {row["id"] for row in operations["items"]}

    shown = await old.get("/get_selectedClusterInfo", id=cluster)
    assert (shown["mid"], {one["wid"] for one in shown["wlist"]}) == (MASTER, {FIRST, SECOND})
    assert codes(await old.get("/check_k8s_node")) == codes(formed)
    ready = await hosts[0].shell(f"{byhand.KUBECTL} get nodes --no-headers")
    assert [line.split()[1] for line in ready.splitlines()] == ["Ready"] * 3
    # It really asks: without its API no node is said to be well.
    async with faults.unplugged(hosts[0]):
        cut = await old.get("/check_k8s_node", code="0014")
        assert set(codes(cut).values()) == {"0014"}

    async def well() -> bool:
        answer = await old.client.get(old.urls[1] + "/check_k8s_node")
        return bool(answer.json()["code"] == "0000")

    await made.until("all nodes are well again", well)
    return cluster


async def _deployed(old: OldProgram, made: Fleet, cluster: str, content: bytes) -> str:
    uploaded = await old.send("weather-01.zip", "0.01v", content)
    assert uploaded["digest"].startswith("sha256:")
    sid: str = uploaded["id"]
    fetched = await old.client.get(old.urls[0] + "/download?filename=weather-01.zip")
    assert fetched.content == content
    assert (await old.get("/get_selectedEdgeAiInfo", id=sid))["name"] == "weather-01.zip"

    # At once: the nodes' agents come by themselves, and are waited for.
    one = await old.post("/deploy_aiToDevice", {"sid": sid, "did": FIRST})
    assert codes(one) == {FIRST: "0000"}
    await _results_of(made, FIRST, sid, "0.01v", "01")
    (first,) = await _deployments(made, FIRST)
    both = await old.post("/deploy_aiToCluster", {"sid": sid, "cid": cluster})
    assert codes(both) == {FIRST: "0000", SECOND: "0000"}
    assert await _deployments(made, FIRST) == [first], "the same digest runs on"
    assert await _deployments(made, MASTER) == []
    await _results_of(made, SECOND, sid, "0.01v", "01")
    spread = await old.get("/get_deployedNodes_by_aid", aid=sid)
    assert set(spread["nid_list"]) == {FIRST, SECOND}

    async def said() -> bool:
        found = await old.usage(FIRST)
        return found is not None and found["cpu"] == 61.5

    await made.until("the usage that an AI said at its fixed address", said)
    await made.until("a usage that an agent measured", lambda: old.usage(MASTER))
    return sid


async def _optimised_by_version(old: OldProgram, made: Fleet, before: str) -> str:
    wish = {"filename": "weather", "version": "0.02v", "ai_class": "01"}
    done = await old.post("/optimize_by_version", wish)
    assert codes(done) == {FIRST: "0000", SECOND: "0000"}
    newer: str = done["aid"]
    assert newer != before
    for ref in (FIRST, SECOND):
        assert await old.runs(ref) == [newer]
        await _results_of(made, ref, newer, "0.02v", "01")
    found = await old.get("/get_aid_by_fnameAndClass", filename="weather", **{"class": "01"})
    assert found["aid"] == newer
    return newer


async def _switched_by_weather(old: OldProgram, made: Fleet, before: str) -> str:
    wish = {"filename": "weather", "version": "0.01v", "ai_class": "02"}
    uploaded = await old.post("/request_upload_edgeAi", wish)
    assert uploaded["nodes"] == []
    rain: str = uploaded["aid"]
    told: list[str] = []

    async def started() -> bool:
        reading = {
            "created_at": made.server.haechi.clock.now().isoformat(sep=" "),
            "res_class": "02",
            "res_confidence": "0.8",
            "nid": FIRST,
        }
        told.append((await old.post("/optimize_by_weather", reading))["action"])
        return told[-1] == "started"

    await made.until("the AI of the other weather begins", started)
    assert set(told[:-1]) == {"waiting"}

    async def switched() -> bool:
        there = await old.runs(FIRST)
        assert there, "the old one went before the new one was proven"
        return there == [rain]

    await made.until("the AI of the other weather alone", switched)
    await _results_of(made, FIRST, rain, "0.01v", "02")
    assert await old.runs(SECOND) == [before]
    return rain


async def _taken_back(old: OldProgram, made: Fleet, master: Host, rain: str, newer: str) -> None:
    pair = {"sid": rain, "did": FIRST}
    assert codes(await old.post("/remove_deploySwInfo", pair)) == {FIRST: "0000"}
    assert await old.runs(FIRST) == []
    await old.post("/remove_deploySwInfo", pair, code="0004")
    pods = await master.shell(f"{byhand.KUBECTL} get pods -n haechi-ai --no-headers")
    (left,) = await _deployments(made, SECOND)
    assert [line.split()[0].startswith(left) for line in pods.splitlines()] == [True]
    refused = await old.post("/remove_uploadedEdgeAi", {"id": newer}, code="9999")
    assert [node["id"] for node in refused["nodes"]] == [SECOND]


async def _deleted(old: OldProgram, hosts: list[Host], cluster: str, ais: list[str]) -> None:
    gone = await old.post("/remove_selectedEdgeCluster", {"id": cluster})
    assert codes(gone) == {MASTER: "0000", FIRST: "0000", SECOND: "0000"}
    await old.post("/remove_selectedEdgeCluster", {"id": cluster}, code="0004")
    assert (await old.get("/check_k8s_node"))["nodes"] == []
    assert await old.runs(SECOND) == []
    for host in hosts:
        assert not await host.holds("ls /etc/kubernetes/*.conf /var/lib/haechi-agent")
        assert not await host.holds("ip link show cni0 || ip link show flannel.1")
        assert not await host.holds("pidof kubelet etcd kube-proxy flanneld")
    for version in ais:
        await old.post("/remove_uploadedEdgeAi", {"id": version})
        await old.get("/get_selectedEdgeAiInfo", code="0004", id=version)


async def _deployments(made: Fleet, ref: str) -> list[str]:
    """Those that run there, by the book."""
    params = {"device_id": await _own_id(made, ref)}
    found = (await made.server.client.get("/deployments", params=params)).json()["items"]
    return [row["id"] for row in found if row["state"] == "running"]


async def _results_of(made: Fleet, ref: str, version_id: str, version: str, class_: str) -> None:
    """Of that version on that device, by both ways: who it is, is never what the body says."""
    device_id = await _own_id(made, ref)
    params = {"device_id": device_id, "class": class_, "limit": 100}
    wanted = {"fixed address", "token"}
    rows: list[dict[str, Any]] = []

    async def arrived() -> bool:
        page = (await made.server.client.get("/results", params=params)).json()["items"]
        rows[:] = [row for row in page if row["claimed"].get("version") == version]
        return wanted <= {row["claimed"]["ainame"] for row in rows}

    await made.until(f"results of {version} from {ref} by {sorted(wanted)}", arrived)
    (deployment_id,) = await _deployments(made, ref)
    for row in rows:
        assert row["deployment_id"] == deployment_id
        assert (row["version_id"], row["version"]) == (version_id, version)
        assert row["claimed"]["eid"] == "0x99"


async def _said_beside_the_ai(made: Fleet, host: Host, listener: str) -> None:
    """By a program of the host itself at an old listener of the server: the address of the host
    says which device calls, and no more. AIs reach their agent alone.
    """
    body = {"sid": "0xs01", "version": "9.9v", "ainame": "listener", "class": "07"}
    body |= {"class_prob": 0.7, "time": await host.shell("TZ=KST-9 date +%Y%m%d%H%M")}
    where, _, port = listener.rpartition(":")
    answer = await host.shell(
        f"python3 -c '{SAY}' {where} {port} /add_newAiResult", stdin=json.dumps(body).encode()
    )
    assert json.loads(answer.splitlines()[-1]) == {"code": 200, "msg": "GOOD"}
    params = {"device_id": await _own_id(made, FIRST), "class": "07"}

    async def arrived() -> bool:
        page = (await made.server.client.get("/results", params=params)).json()["items"]
        return [(row["claimed"]["ainame"], row["deployment_id"]) for row in page] == [
            ("listener", "")
        ]

    await made.until("the result that the host said at the old listener", arrived)


async def _own_id(made: Fleet, ref: str) -> str:
    return str((await made.server.client.get(f"/devices/{ref}")).json()["id"])
