"""`haechi cluster` as a person uses it, against a whole server; the hosts are in memory."""

import asyncio
import json

import pytest
from click.testing import CliRunner

from haechi.cli.main import main
from haechi.testing.clusters import FakeSite
from haechi.testing.upkeep import UpkeepSite

pytestmark = pytest.mark.integration
HOSTS = ("--control-plane", "master", "--worker", "edge")


@pytest.fixture
def cli(rest, tmp_path, monkeypatch):
    """`await cli("cluster", "list")` → exit code, output, errors."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))

    async def run(*words, as_json=False):
        token = await _token(rest)
        given = ["--url", rest.url, "--token", token, "--language", "en"]
        given += ["--json"] if as_json else []
        ended = await asyncio.to_thread(CliRunner().invoke, main, [*given, *words])
        assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
        return ended.exit_code, ended.stdout, ended.stderr

    return run


async def _token(rest):
    if not hasattr(rest, "token"):
        made = await rest.client.post("/tokens", json={"name": "cli", "role": "admin"})
        rest.token = made.json()["secret"]
    return rest.token


async def test_from_check_to_proof_by_names(rest, cli):
    assert (await cli("cluster", "check", *HOSTS))[:2] == (0, "Nothing hinders.\n")
    code, shown, _ = await cli("cluster", "form", "gate", *HOSTS, "--plan")
    assert code == 0
    assert "Start the control plane" in shown
    assert rest.site.calls == []
    code, shown, log = await cli("cluster", "form", "gate", *HOSTS)
    assert code == 0, log
    assert "[edge] prepared" in log, "each host's lines, live"
    assert "ready" in shown
    code, shown, _ = await cli("cluster", "list", as_json=True)
    (one,) = json.loads(shown)["items"]
    assert (one["name"], one["state"]) == ("gate", "ready")
    code, shown, _ = await cli("cluster", "show", "gate")
    assert "control_plane" in shown
    code, shown, _ = await cli("cluster", "kubeconfig", "gate")
    assert f"current-context: {one['id']}" in shown
    assert (await cli("cluster", "rename", "gate", "yard"))[0] == 0
    assert (await cli("cluster", "remove", "yard", "edge"))[0] == 0
    assert (await cli("cluster", "add", "yard", "edge"))[0] == 0
    assert (await cli("cluster", "remove", "yard", "edge"))[0] == 0
    code, shown, log = await cli("cluster", "delete", "yard")
    assert code == 0
    rows = [line.split() for line in shown.splitlines()[1:]]
    assert {name: stage for name, _, stage, *_ in rows} == {"edge": "clean", "master": "clean"}
    assert "edge: clean" in log
    code, shown, _ = await cli("cluster", "proof", one["id"])
    assert shown.count("clean") == 2
    assert {row.split()[0] for row in shown.splitlines()[1:]} == {"edge", "master"}


async def test_exit_codes_tell_what_went_wrong(rest, cli):
    site: FakeSite = rest.site
    site.hosts.turn_off(rest.ids["edge"])
    code, shown, _ = await cli("cluster", "check", *HOSTS)
    assert code == 5
    head, fact, remedy = shown.splitlines()
    assert head == "edge  error  host_unreachable"
    assert "edge" in fact
    assert remedy.startswith("  → ")
    code, _, told = await cli("cluster", "form", "gate", *HOSTS)
    assert code == 4
    assert "clusters.hosts_not_fit" in told
    assert "edge" in told
    site.hosts.turn_on(rest.ids["edge"])
    site.refuse(rest.ids["edge"], "kubeadm join", "error: no")
    code, shown, _ = await cli("cluster", "form", "gate", *HOSTS)
    assert code == 5, "formed, but a host was left out"
    assert "clusters.host_step_failed" in shown
    assert (await cli("cluster", "form", "gate", *HOSTS))[0] == 4
    assert (await cli("cluster", "show", "nothing"))[0] == 3


async def test_a_profile_is_a_file(rest, cli, tmp_path):
    file = tmp_path / "profile.json"
    file.write_text('{"kubelet": {"failCgroupV1": false}}')
    code, _, told = await cli("cluster", "form", "gate", *HOSTS, "--profile", str(file))
    assert code == 0, told
    listed = (await rest.client.get("/clusters")).json()["items"]
    assert listed[0]["options"]["profile"]["kubelet"] == {"failCgroupV1": False}
    file.write_text("nonsense")
    assert (await cli("cluster", "form", "x", *HOSTS, "--profile", str(file)))[0] == 2


async def test_later_hosts_are_looked_at_and_allowed_what_forming_allows(rest, cli):
    master, edge = rest.ids["master"], rest.ids["edge"]
    assert (await cli("cluster", "form", "gate", "--control-plane", "master"))[0] == 0
    rest.site.work.leftovers.add(edge)
    look = ("cluster", "check", "--cluster", "gate", "--worker", "edge")
    code, shown, _ = await cli(*look)
    assert code == 5
    assert "edge  error  leftovers" in shown
    assert "--clean-leftovers" in shown, "the remedy can be followed"
    assert (await cli(*look, "--clean-leftovers"))[:2] == (0, "Nothing hinders.\n")
    assert (await cli("cluster", "add", "gate", "edge"))[0] == 4
    allowed = ("--accept", "other_runtime", "--trust-hosts", "--clean-leftovers")
    code, _, told = await cli("cluster", "add", "gate", "edge", *allowed)
    assert code == 0, told
    consent = {"accept": ["other_runtime", "host_key_unknown"], "clean_leftovers": True}
    assert await _newest_consent(rest) == consent
    assert (await cli("cluster", "remove", "gate", "edge"))[0] == 0
    rest.site.hosts.turn_off(edge)
    _ = await cli("cluster", "replace", "gate", "master", "edge", "--force", *allowed)
    assert await _newest_consent(rest) == consent
    lab = UpkeepSite(rest.site)
    lab.prepare(master)
    assert (await cli("cluster", "backup", "gate"))[0] == 0
    rest.site.hosts.turn_off(master)
    _ = await cli("cluster", "restore", "gate", "--onto", "edge", *allowed)
    assert await _newest_consent(rest) == consent


async def test_what_a_check_for_a_cluster_cannot_be_asked(rest, cli):
    for words, said in (
        ((), "--control-plane"),
        (("--worker", "edge"), "--control-plane"),
        (("--cluster", "gate"), "either"),
        (("--cluster", "gate", *HOSTS), "either"),
        (("--cluster", "gate", "--worker", "edge", "--kubernetes", "1.36"), "--kubernetes"),
        (("--cluster", "gate", "--worker", "edge", "--pod-cidr", "10.1.0.0/16"), "--pod-cidr"),
    ):
        code, _, told = await cli("cluster", "check", *words)
        assert (code, said in told) == (2, True), (words, told)
    code, _, told = await cli("cluster", "restore", "gate", "--clean-leftovers")
    assert code == 2
    assert "--onto" in told


async def _newest_consent(rest):
    """Of the operation that was begun last."""
    operations = (await rest.client.get("/operations")).json()["items"]
    kinds = {"add_node", "replace_node", "rebuild_cluster"}
    newest = next(one for one in operations if one["kind"] in kinds)
    return (await rest.haechi.operations.get(newest["id"])).ctx["consent"]
