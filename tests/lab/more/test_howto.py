"""The how-to for a site of NUCs and Jetsons, followed word by word as a new user would.

Its commands are taken out of the page itself and typed into a terminal; only addresses, ports, the
login and the stick's folder are the lab's. What is not followed here stands in `NOT_HERE`.
"""

import asyncio
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from haechi.domains.clusters.bundle import recipe
from haechi.domains.clusters.bundle.model import name_of
from haechi.testing.processes import environment, free_ports
from lab import waiting
from lab.stand import PROFILE

from .terminal import LIMIT_S, Terminal

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "howto" / "nuc-jetson.md"
AGENT = f"haechi-test/howto-agent:{os.getpid()}"
PASSWORD = "carried-in-my-head"
NOT_HERE = {
    "haechi bundle create --platform linux/arm64": "its compiling takes long",
    "haechi bundle pack {arm64} -o /media/stick/arm64.tar": "it was not made",
    "haechi bundle unpack /media/stick/arm64.tar": "it was not made",
    "sudo nvidia-ctk runtime configure --runtime=containerd": "no GPU",
    "sudo systemctl restart containerd": "no GPU",
    "kubectl label node jetson-1 haechi.internal/gpu=runtime": "no GPU",
}
LAB_WARNINGS = {"module_missing", "disk_nearly_full", "memory_scarce"}
"""What lab hosts may be told of: they share the machine's kernel, disk and memory."""
STATE = """\
dpkg-query -W -f '${Package} ${Version} ${Status}\\n'
ls -A / /etc /opt /usr/local/bin /usr/local/sbin /etc/systemd/system /etc/apt/sources.list.d
ls /sys/class/net
"""


def commands(page: Path) -> list[str]:
    """Of its shell blocks, without what is said behind them."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    lines = [line.partition(" #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


@dataclass
class Server:
    """`haechi serve` in another window."""

    terminal: Terminal
    log_file: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    async def start(self, words: list[str]) -> None:
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                words, stdout=log, stderr=log, cwd=self.terminal.folder, env=self.terminal.env
            )
        async with asyncio.timeout(LIMIT_S):
            while "haechi is ready" not in self.log:
                assert self.process.poll() is None, self.log
                await asyncio.sleep(0.1)

    def first_password(self) -> str:
        """Where it says that it is."""
        said = re.search(r"the password of user admin is in (\S+);", self.log)
        assert said, self.log
        return (self.terminal.folder / said[1]).read_text().strip()


@pytest.fixture
def places(tmp_path: Path) -> Iterator[tuple[Terminal, Server, Path]]:
    """The site's server with an empty home, and the stick. Both are large: nothing is kept."""
    home, stick = tmp_path / "home", tmp_path / "stick"
    given = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HAECHI_REGISTRY__CONFIG_HOME": str(tmp_path / "docker"),  # not this machine's /etc
        "HAECHI_AGENTS__IMAGE": AGENT,
    }
    site = Terminal(environment(home, given), home)
    server = Server(site, tmp_path / "server.log")
    try:
        yield site, server, stick
    finally:
        if server.process is not None:
            server.process.terminate()
            server.process.wait(120)
            print(server.log[-8000:])
        subprocess.run(["docker", "image", "rm", AGENT], check=False, capture_output=True)
        for folder in (home, stick):
            shutil.rmtree(folder, ignore_errors=True)


async def test_the_page_is_the_same_in_both_languages():
    assert commands(PAGE.with_suffix(".ko.md")) == commands(PAGE)


async def test_a_site_of_nucs_and_jetsons_word_by_word(site, places):
    terminal, server, stick = places
    nuc, jetson = await asyncio.gather(site.host("nuc-1"), site.host("jetson-1"))
    before = {host.name: await host.shell(STATE) for host in (nuc, jetson)}
    main, agents, registry = free_ports(3)
    lab_s = {
        "/media/stick": str(stick),
        "127.0.0.1:8420": f"127.0.0.1:{main}",
        "192.168.0.9:8421": f"{site.gateway}:{agents}",
        "192.168.0.9:8425": f"{site.gateway}:{registry}",
        "192.168.0.10": nuc.address,
        "192.168.0.21": jetson.address,
        "--ssh-user kim": f"--ssh-user {nuc.keeper.user}",
        "haechi/agent:latest": AGENT,
        "packaging/agent/build.py": f"{sys.executable} {ROOT}/packaging/agent/build.py --tag {AGENT}",
    }
    terminal.env["HAECHI_URL"] = f"http://127.0.0.1:{main}"
    office = Terminal({**terminal.env, "HOME": str(Path.home())}, terminal.folder)
    arm64 = name_of(recipe.load().kubernetes, "linux/arm64")
    left_out = {line.format(arm64=arm64) for line in NOT_HERE}
    lines = commands(PAGE)
    assert left_out <= {*lines}
    lab_host: list[str] = []  # what lab hosts have to be told, as `check` asks for it
    profile = terminal.folder / "cgroup.json"
    hint = json.loads(re.search(r"`(\{\"kubelet\".*?\})`", PAGE.read_text(), re.DOTALL)[1])
    assert hint["kubelet"].items() <= PROFILE["kubelet"].items()
    assert hint["ignore_preflight"] == PROFILE["ignore_preflight"]
    profile.write_text(json.dumps(PROFILE))

    async def types(words: list[str], at: Terminal = terminal, **more: Any) -> str:
        return await asyncio.to_thread(at.types, words, **more)

    async def asks(*words: str, **more: Any) -> Any:
        return await asyncio.to_thread(terminal.asks, *words, **more)

    async def all_is_well() -> bool:
        """Forming has succeeded, and each agent's coming; every node is heard of."""
        done = (await asks("haechi", "operation", "list"))["items"]
        assert {one["state"] for one in done} <= {"queued", "running", "succeeded"}, done
        health = await asks("haechi", "cluster", "health", "yard", status=None)
        nodes = {one["node_name"]: one["presence"] for one in health["nodes"]}
        well = health["api"] == "ok" and nodes == {nuc.name: "ok", jetson.name: "ok"}
        return well and {one["state"] for one in done} == {"succeeded"}

    cluster_id = ""
    for line in lines:
        if line in left_out:
            continue
        typed = line.replace("clu-…", cluster_id)
        for theirs, ours in lab_s.items():
            typed = typed.replace(theirs, ours)
        assert "192.168." not in typed
        words = shlex.split(typed)
        match words[:3]:
            case ["haechi", "bundle", "verify"]:
                assert "No problems." in await types(words, office)
            case ["haechi", "bundle", "create" | "pack"] | [_, _, "--tag"] | ["docker", "save", _]:
                await types(words, office)
            case ["haechi", "bundle", "unpack"]:
                await types(words)
                (unpacked,) = await asks("haechi", "bundle", "list")
                assert unpacked["state"] == "complete"
                assert Path(unpacked["folder"]).is_relative_to(terminal.folder)
            case ["haechi", "serve", *_]:
                await server.start(words)
            case ["haechi", "login"]:
                first = server.first_password()
                answers = {"Name [admin]: ": "", "Password: ": first}
                new = {"New password: ": PASSWORD, "New password again: ": PASSWORD}
                assert "Signed in as admin" in await types(words, answers=answers | new)
            case ["haechi", "device", "create"]:
                assert "--ask-ssh-password" in words
                await types(words, answers={"SSH password: ": nuc.keeper.password})
            case ["haechi", "cluster", "check"] if "--trust-hosts" not in words:
                # Exit code 5: the hosts' keys are to be compared first.
                shown = await types(words, status=5)
                for host in (nuc, jetson):
                    key = await host.shell("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub")
                    assert key.split()[1] in shown
            case ["haechi", "cluster", "check"]:
                # What hinders names what helps; then it is done and asked again.
                found = (await asks(*words, status=None))["findings"]
                assert all(one["remedy"] for one in found)
                errors = {one["name"] for one in found if one["level"] == "error"}
                warnings = {one["name"] for one in found if one["level"] == "warning"}
                warnings.discard("host_key_unknown")
                assert errors <= {"cgroup_v1"}, found
                assert warnings <= LAB_WARNINGS, found
                accepted = [f"--accept={name}" for name in sorted(warnings)]
                lab_host = ["--profile", profile.name, *accepted]
                assert "Nothing hinders." in await types([*words, *lab_host])
            case ["haechi", "cluster", "form"]:
                await types([*words, *lab_host])
                (formed,) = (await asks("haechi", "cluster", "list"))["items"]
                cluster_id = formed["id"]
                await waiting.until("the cluster and its agents are well", all_is_well, LIMIT_S)
            case ["haechi", "cluster", "health"]:
                shown = await types(words)
                assert nuc.name in shown
                assert jetson.name in shown
            case ["haechi", "cluster", "list"]:
                assert cluster_id in await types(words)
            case ["haechi", "cluster", "proof"]:
                shown = await types(words)
                clean = re.findall(r"^(\S+) +clean ", shown, re.MULTILINE)
                assert sorted(clean) == sorted([nuc.name, jetson.name])
            case ["docker", "load", _] | ["haechi", "cluster", "remove" | "delete"]:
                await types(words)
            case _:
                pytest.fail(f"nobody follows `{line}` of the page here")
    for host in (nuc, jetson):
        assert await host.shell(STATE) == before[host.name]
