"""Devices whose server, radio or Docker goes away and comes back, and tokens in wrong hands.

Two agents on an island with a Docker of their own: the only way out are its doors, so that shutting
one is what a radio hole is.
"""

import json
import math

import pytest

from haechi.testing import packages

from .conftest import BASE, Agent, check_texts, ended, run, serving, traceback_in, until

pytestmark = pytest.mark.docker


class Site:
    """Two devices on an island, one AI on each that says something five times a second."""

    def __init__(self, server, client, docker, folder):
        self.server = server
        self.client = client
        self.docker = docker
        self.island = docker.island
        options = [
            f"--docker-socket={docker.socket}",
            "--no-media",
            f"--docker-config={folder / 'docker'}",
            f"--hosts-file={folder / 'hosts'}",
        ]
        (folder / "hosts").touch()
        self.agents = [
            Agent(server, client, name, folder / name, *options, inside=self.island.inside)
            for name in ("one", "two")
        ]

    def upload(self, name, data, version="1"):
        params = {"filename": f"{name}.zip", "version": version, "name": name}
        made = self.client.post("/packages/upload", params=params, content=data)
        building = self.client.post(f"/packages/{name}/versions/{version}/build").json()
        assert ended(self.client, building["operation_id"])["state"] == "succeeded"
        return made.json()["id"]

    def deploy(self, version_id, *agents):
        body = {"version_id": version_id, "device_ids": [agent.id for agent in agents]}
        answer = self.client.post("/deployments", json=body)
        assert answer.status_code == 202, answer.text
        return answer.json()["operation_id"]

    def running(self, agent):
        items = self.client.get("/deployments", params={"device_id": agent.id}).json()["items"]
        return next(item for item in items if item["state"] == "running")

    def rows(self, agent):
        """Every result of the device, oldest first."""
        rows, cursor = [], None
        while True:
            query = {"device_id": agent.id, "limit": 1000, **({"cursor": cursor} if cursor else {})}
            page = self.client.get("/results", params=query).json()
            rows += page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return rows[::-1]

    def newest(self, agent):
        page = self.client.get("/results", params={"device_id": agent.id, "limit": 1}).json()
        return page["items"][0]["seq"] if page["items"] else 0

    def container(self, agent):
        found = self.docker.cli("ps", "-q", "--filter", f"label=haechi.device={agent.id}").stdout
        return found.split()[0]

    def environment(self, agent):
        told = self.docker.cli("inspect", "-f", "{{json .Config.Env}}", self.container(agent))
        return dict(item.split("=", 1) for item in json.loads(told.stdout))

    def call(self, agent, path, body=None, token="", container=None):
        """Call `agent`'s intake from the island, or from a container: (status, document)."""
        url = self.environment(agent)["HAECHI_AGENT_URL"] + path
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        words = ["python3", "-c", CALL, url, json.dumps(headers)]
        if container is None:
            words = [*self.island.inside, *words]
        else:
            words = [*self.docker_words, "exec", "-i", container, *words]
        done = run(*words, stdin=body if body is not None else "")
        status, _, text = done.stdout.partition("\n")
        return int(status), json.loads(text)

    @property
    def docker_words(self):
        return ["docker", "-H", f"unix://{self.docker.socket}"]

    def backlog(self, agent):
        return self.call(agent, "/v1/health")[1]["backlog"]


CALL = """
import sys, json, urllib.request, urllib.error
url, headers, body = sys.argv[1], json.loads(sys.argv[2]), sys.stdin.buffer.read()
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
try:
    answer = opener.open(urllib.request.Request(url, body or None, headers), timeout=20)
except urllib.error.HTTPError as error:
    answer = error
print(answer.status)
print(answer.read().decode())
"""


@pytest.fixture(scope="module")
def site(own_docker, tmp_path_factory):
    folder = tmp_path_factory.mktemp("devices")
    settings = {"builds.docker_socket": own_docker.socket, "builds.network": "none"}
    with serving(folder / "server", **settings) as server, server.client() as client:
        for port in (server.push_port, server.registry_port, server.agents_port):
            own_docker.island.open(port)
        mapping = {"source": packages.BASE, "target": BASE}
        client.put("/base-images", json=mapping).raise_for_status()
        made = Site(server, client, own_docker, folder)
        try:
            for agent in made.agents:
                agent.start()
            until(lambda: all(agent.state(client) == "ok" for agent in made.agents))
            version_id = made.upload("poster", packages.posting("poster"))
            operation = ended(client, made.deploy(version_id, *made.agents), 90)
            assert operation["state"] == "succeeded", operation
            until(lambda: all(made.newest(agent) > 3 for agent in made.agents))
            yield made
        finally:
            for agent in made.agents:
                agent.stop()
        for agent in made.agents:
            assert not traceback_in(agent.log)


@pytest.fixture
def one(site):
    return site.agents[0]


@pytest.fixture
def two(site):
    return site.agents[1]


def check_each_once(site, agent, instance):
    """No number of the AI's is missing, none is there twice."""
    seqs = [row["seq"] for row in site.rows(agent) if row["instance"] == instance]
    assert sorted(seqs) == list(range(min(seqs), max(seqs) + 1))


def test_results_of_an_outage_of_the_server_arrive_once(site, one):
    instance = site.rows(one)[-1]["instance"]
    before = site.newest(one)
    site.server.kill()
    until(lambda: site.backlog(one) >= 15)
    site.server.start()
    until(lambda: site.newest(one) >= before + 15 and site.backlog(one) < 5)
    check_each_once(site, one, instance)
    assert site.running(one)["restarts"] == 0
    assert site.rows(one)[-1]["instance"] == instance


def test_a_radio_hole_is_seen_and_its_results_arrive_once(site, one, two):
    instance = site.rows(one)[-1]["instance"]
    before = site.newest(one)
    site.island.shut(site.server.agents_port)
    try:
        until(lambda: one.state(site.client) == "silent")
        until(lambda: one.state(site.client) == "dead")
        until(lambda: site.backlog(one) >= 15)
        shown = site.client.get(f"/devices/{one.id}/agent").json()
        assert (shown["connected"], shown["presence"]) == (False, "dead")
        assert shown["presence_reason"]
    finally:
        site.island.open(site.server.agents_port)
    until(lambda: one.state(site.client) == two.state(site.client) == "ok")
    until(lambda: site.newest(one) >= before + 15 and site.backlog(one) < 5)
    check_each_once(site, one, instance)
    assert site.running(one)["restarts"] == 0


def test_a_link_that_flaps(site, one):
    instance = site.rows(one)[-1]["instance"]
    for _ in range(5):
        site.island.shut(site.server.agents_port)
        before = site.backlog(one)
        until(lambda before=before: site.backlog(one) > before)
        site.island.open(site.server.agents_port)
        until(lambda: site.client.get(f"/devices/{one.id}/agent").json()["connected"])
    until(lambda: one.state(site.client) == "ok" and site.backlog(one) < 5)
    check_each_once(site, one, instance)


def test_a_token_in_wrong_hands(site, one, two):
    """Good from its own container at its own agent, and nowhere else."""
    token = site.environment(one)["HAECHI_TOKEN"]
    row = json.dumps({"class": "stolen", "class_prob": 1})
    status, _ = site.call(one, "/v1/results", row, token, container=site.container(one))
    assert status == 200
    for call in (
        lambda: site.call(one, "/v1/results", row, token),  # from the device, no container
        lambda: site.call(two, "/v1/results", row, token),  # at another device's agent
        lambda: site.call(two, "/v1/results", row, token, container=site.container(two)),
        lambda: site.call(two, "/v1/assignments", None, token, container=site.container(two)),
        lambda: site.call(one, "/v1/results", row, "nonsense", container=site.container(one)),
    ):
        status, found = call()
        assert (status, found["code"]) == (403, "intake.unknown_caller")
        check_texts(found)
        assert token not in json.dumps(found)
    at_server = site.client.post(
        "/results", content=row, headers={"Authorization": f"Bearer {token}", "Cookie": ""}
    )
    assert at_server.status_code == 403, at_server.text
    until(lambda: any(row["class"] == "stolen" for row in site.rows(one)))
    assert [row["class"] for row in site.rows(two)].count("stolen") == 0
    for log in (site.server.log, one.log, two.log):
        assert token not in log


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("{", 400),
        ("[" * 100_000, 400),
        (json.dumps({"class": "a", "class_prob": 1.7}), 422),
        (json.dumps({"class": "a", "class_prob": math.nan}), 422),
        ('{"class": "' + "x" * 10_000_000 + '"}', 413),
    ],
    ids=["half", "deep", "1.7", "NaN", "10 MB"],
)
def test_what_an_ai_sends_wrong(site, one, body, status):
    token = site.environment(one)["HAECHI_TOKEN"]
    got, found = site.call(one, "/v1/results", body, token, container=site.container(one))
    assert got == status, found
    check_texts(found)
    assert len(json.dumps(found)) < 20_000


def test_bad_rows_of_an_ai_are_refused_by_index_and_claims_not_believed(site, one):
    token = site.environment(one)["HAECHI_TOKEN"]
    rows = [
        {"class": "kept", "class_prob": 1, "device_id": "dev-aaaaaaaaaaaaaaaa"},
        {"class": "a", "class_prob": 1.7},
        {"objects": [{"box": [0.9, 0, 0.2, 0.1], "class": "p", "class_prob": 1}]},
        {"class": "kept", "class_prob": 1, "captured_at": "yesterday"},
    ]
    status, outcome = site.call(
        one, "/v1/results", json.dumps(rows), token, container=site.container(one)
    )
    assert (status, outcome["accepted"]) == (200, 2)
    assert [refused["index"] for refused in outcome["refused"]] == [1, 2]
    until(lambda: [row["class"] for row in site.rows(one)].count("kept") == 2)
    kept = [row for row in site.rows(one) if row["class"] == "kept"]
    assert {row["device_id"] for row in kept} == {one.id}
    assert kept[0]["claimed"]["device_id"] == "dev-aaaaaaaaaaaaaaaa"
    assert kept[1]["captured_at_is_arrival"]


def test_the_docker_of_a_device_goes_and_comes_back(site, one):
    """Said as what it is; the AI and its results go on by themselves afterwards."""
    before = site.newest(one)
    version_id = site.running(one)["version_id"]
    site.docker.kill()
    try:
        assert one.state(site.client) == "ok"
        operation = ended(site.client, site.deploy(version_id, one), 90)
        assert operation["state"] == "failed"
        assert operation["error"]["code"] == "agent.engine_away"
        check_texts(operation["error"])
    finally:
        site.docker.start()
    until(lambda: site.newest(one) not in {before, 0} and site.container(one), 60)
    instance = until(lambda: site.rows(one)[-1]["instance"])
    until(lambda: site.newest(one) > 3)
    check_each_once(site, one, instance)
    until(lambda: site.running(one)["version_id"] == version_id)


def test_the_registry_is_away_while_a_device_pulls(site, two):
    version_id = site.upload("other", packages.posting("other"))
    site.docker.cli("image", "prune", "-af", check=False)
    site.island.shut(site.server.registry_port)
    operation_id = site.deploy(version_id, two)
    said = ("registry", "레지스트리")

    def waits():
        items = site.client.get("/operations", params={"limit": 10}).json()["items"]
        logs = [site.client.get(f"/operations/{item['id']}/log").text for item in items]
        return any(word in log and "again in" in log for log in logs for word in said)

    until(waits, 60)
    site.island.open(site.server.registry_port)
    operation = ended(site.client, operation_id, 90)
    assert operation["state"] == "succeeded", operation
