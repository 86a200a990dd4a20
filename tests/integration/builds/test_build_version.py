"""zip → image in the site registry, by the real engine."""

import asyncio
import subprocess
import uuid

import pytest

from haechi.adapters.docker_api import RegistryLogin
from haechi.core.access import SYSTEM
from haechi.core.operations import State
from haechi.core.secrets import Secret
from haechi.domains.builds.model import BadPlatform, BuildState, PlatformRefused
from haechi.errors import Busy

SCRATCH = {"Dockerfile": "FROM scratch\nCOPY a.txt /a.txt\n", "a.txt": "hello"}


async def test_a_zip_becomes_an_image_that_a_device_can_pull(site):
    version = await site.upload(SCRATCH, "t-first")
    ended = await site.build(version)
    assert ended.state is State.SUCCEEDED, site.log(ended)
    build = await site.build_of(version)
    assert build.state is BuildState.SUCCEEDED
    assert build.platform == "linux/amd64"
    assert build.image == f"{site.parts.names.pull}/t-first@{build.digest}"
    assert ended.ctx["result"]["builds"][0]["image"] == build.image

    image = await site.docker.image("haechi-build/t-first:linux-amd64")
    assert image["Config"]["Labels"]["haechi.package"] == "t-first"
    assert image["Config"]["Labels"]["haechi.version"] == "1.0"
    await site.docker.remove_image("haechi-build/t-first:linux-amd64", force=True)

    login = await site.registry.pull_login("dev-aaaaaaaaaaaaaaaa")
    await site.docker.pull(build.image, login=RegistryLogin(login.name, login.password))
    await site.docker.remove_image(build.image)
    assert not any(site.builds._folder.iterdir())


async def test_the_version_is_the_human_tag_of_an_index(site):
    version = await site.upload(SCRATCH, "t-index")
    await site.build(version)
    build = await site.build_of(version)
    index = await site.parts.client.manifest("t-index", "1.0")
    assert [(child.platform, child.digest) for child in index.children] == [
        ("linux/amd64", build.digest)
    ]
    facts = (await site.packages.build_facts([version.id]))[version.id]
    assert (facts.state, facts.image_digest) == ("built", build.digest)


async def test_the_same_content_is_not_built_twice_unless_asked(site):
    version = await site.upload(SCRATCH, "t-reuse")
    await site.build(version)
    first = await site.build_of(version)
    again = await site.build(version)
    assert again.state is State.SUCCEEDED, site.log(again)
    second = await site.build_of(version)
    assert (second.reused_from, second.digest) == (first.id, first.digest)
    anew = await site.build(version, no_cache=True)
    assert anew.state is State.SUCCEEDED
    assert (await site.build_of(version)).reused_from is None


async def test_a_mapped_base_image_is_used_and_recorded(site, base):
    await site.builds.map_base_image("python:3.11-slim", base, by=SYSTEM)
    dockerfile = (
        "# syntax=docker/dockerfile:1.7\nARG TAG=3.11-slim\nFROM python:${TAG} AS one\n"
        "RUN echo made > /made\nFROM scratch\nCOPY --from=one /made /made\n"
    )
    version = await site.upload({"Dockerfile": dockerfile}, "t-mapped")
    ended = await site.build(version)
    assert ended.state is State.SUCCEEDED, site.log(ended)
    (use,) = (await site.build_of(version)).base_images
    assert (use.source, use.used, use.line) == ("python:3.11-slim", base, 3)
    assert use.image_id.startswith("sha256:")
    assert "left out '# syntax=docker/dockerfile:1.7'" in site.log(ended)


async def test_a_base_image_that_is_not_there_is_named(site):
    version = await site.upload({"Dockerfile": "\nFROM nowhere.invalid/x:1\n"}, "t-missing")
    ended = await site.build(version)
    assert ended.state is State.FAILED
    assert ended.error["code"] == "builds.base_image_missing"
    assert ended.error["data"]["image"] == "nowhere.invalid/x:1"
    assert ended.error["data"]["line"] == 2
    assert (await site.build_of(version)).state is BuildState.FAILED
    assert not any(site.builds._folder.iterdir())


async def test_a_failing_dockerfile_says_step_and_last_lines(site, base):
    dockerfile = f"FROM {base}\nRUN echo about to fail; exit 3\n"
    version = await site.upload({"Dockerfile": dockerfile}, "t-fails")
    ended = await site.build(version)
    assert ended.error["code"] == "builds.failed"
    data = ended.error["data"]
    assert "RUN echo about to fail" in data["step"]
    assert data["lines"] == ["about to fail"]
    assert "exit code: 3" in data["reason"]
    build = await site.build_of(version)
    assert build.error["code"] == "builds.failed"
    assert await site.docker.images({"reference": [f"haechi-build:{build.id}"]}) == []


async def running(words: str) -> bool:
    found = await asyncio.to_thread(
        subprocess.run, ["pgrep", "-f", "-x", words], capture_output=True, check=False
    )
    return found.returncode == 0


async def until(condition, timeout_s=20):
    async with asyncio.timeout(timeout_s):
        while not await condition():
            await asyncio.sleep(0.05)


async def test_a_build_that_never_ends_is_stopped(site, base):
    site.settings["timeout_s"] = 2
    dockerfile = f"FROM {base}\nRUN sleep 611.5\n"
    version = await site.upload({"Dockerfile": dockerfile}, "t-endless")
    ended = await site.build(version)
    assert ended.error["code"] == "builds.timed_out"
    assert "sleep 611.5" in ended.error["data"]["step"]

    async def gone():
        return not await running("sleep 611.5")

    await until(gone)


async def test_cancelling_stops_the_build_and_leaves_nothing(site, base):
    version = await site.upload({"Dockerfile": f"FROM {base}\nRUN sleep 612.5\n"}, "t-cancel")
    operation = await site.builds.build_version(version.id)
    await until(lambda: running("sleep 612.5"))
    with pytest.raises(Busy):
        await site.builds.build_version(version.id)
    await site.operations.cancel(operation.id)
    ended = await site.operations.wait(operation.id)
    assert ended.state is State.CANCELLED

    async def gone():
        return not await running("sleep 612.5")

    await until(gone)
    assert (await site.build_of(version)).state is BuildState.CANCELLED
    assert not any(site.builds._folder.iterdir())


async def test_a_full_disk_is_said_before_anything_is_done(site):
    site.free_bytes["bytes"] = 10
    version = await site.upload(SCRATCH, "t-full")
    ended = await site.build(version)
    assert ended.error["code"] == "core.disk_full"


async def test_an_image_that_is_too_large_is_refused_and_removed(site):
    site.settings["max_image_bytes"] = 3
    version = await site.upload(SCRATCH, "t-large")
    ended = await site.build(version)
    assert ended.error["code"] == "builds.image_too_large"
    build = await site.build_of(version)
    assert not await site.docker.has_image(f"haechi-build:{build.id}")


async def test_heredocs_on_an_old_engine_are_refused_in_words(site, base):
    version = await site.upload(
        {"Dockerfile": f"FROM {base}\nRUN <<EOF\necho one\nEOF\n"}, "t-heredoc"
    )
    ended = await site.build(version)
    engine = (await site.docker.version())["Version"]
    if int(engine.split(".")[0]) < 23:
        assert ended.error["code"] == "builds.heredocs_unsupported"
        assert ended.error["data"]["engine"] == engine
    else:
        assert ended.state is State.SUCCEEDED


async def test_platforms_that_nothing_here_builds_are_refused(site):
    version = await site.upload(SCRATCH, "t-foreign")
    with pytest.raises(PlatformRefused):
        await site.builds.build_version(version.id, ["linux/arm64"])
    with pytest.raises(BadPlatform):
        await site.builds.build_version(version.id, ["windows/amd64"])
    assert await site.operations.active_on(version.id) is None


async def test_site_index_and_ca_reach_every_run_but_not_the_image(site, base, tmp_path):
    ca = tmp_path / "ca.pem"
    ca.write_text("-----BEGIN CERTIFICATE-----\nnot one\n-----END CERTIFICATE-----\n")
    site.settings |= {"pip_index_url": "https://user:topsecret@index.test/simple", "ca_file": ca}
    dockerfile = (
        f"FROM {base} AS one\nRUN echo {uuid.uuid4()}; pip config list; cat $SSL_CERT_FILE\n"
        "FROM one AS two\nCOPY . /app/\nRUN env | grep ^PIP_CONFIG_FILE; touch /app/seen\n"
        "FROM scratch\nCOPY --from=two /app /app\n"
    )
    version = await site.upload({"Dockerfile": dockerfile, "x.py": ""}, "t-sitefiles")
    ended = await site.build(version)
    log = site.log(ended)
    assert ended.state is State.SUCCEEDED, log
    assert "index.test/simple" in log
    assert "BEGIN CERTIFICATE" in log
    assert "--mount" not in log
    name = "haechi-build/t-sitefiles:linux-amd64"
    image = await site.docker.image(name)
    assert not any(entry.startswith("SSL_CERT_FILE") for entry in image["Config"]["Env"] or [])
    history = await asyncio.to_thread(
        subprocess.run,
        ["docker", "history", "--no-trunc", name],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "topsecret" not in history.stdout


async def test_dockerignore_is_honoured(site):
    files = {
        "Dockerfile": "FROM scratch\nCOPY . /\n",
        ".dockerignore": "*.tmp\n!keep.tmp\nsecret\n",
        "a.txt": "a",
        "b.tmp": "b",
        "keep.tmp": "k",
        "secret/key": "s",
    }
    version = await site.upload(files, "t-ignore")
    ended = await site.build(version)
    assert ended.state is State.SUCCEEDED, site.log(ended)
    made = await site.docker.create_container(
        "haechi-test-ignore",
        {"Image": "haechi-build/t-ignore:linux-amd64", "Cmd": ["none"]},
    )
    try:
        listing = await asyncio.to_thread(
            subprocess.run,
            f"docker export {made} | tar -t",
            shell=True,
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        await site.docker.remove_container(made, force=True)
    found = set(listing.stdout.split())
    assert {"a.txt", "keep.tmp"} <= found
    assert not {"b.tmp", "secret/", "secret/key"} & found


async def test_the_log_can_be_followed(site, base):
    dockerfile = (
        f"FROM {base} AS one\nRUN echo {uuid.uuid4()} > /x; for i in 1 2 3; do echo line $i; done\n"
        "FROM scratch\nCOPY --from=one /x /x\n"
    )
    version = await site.upload({"Dockerfile": dockerfile}, "t-follow")
    operation = await site.builds.build_version(version.id)

    async def begun():
        return bool((await site.builds.find(version_id=version.id)).items)

    await until(begun)
    build = await site.build_of(version)
    text = b"".join([piece async for piece in site.builds.follow_log(build.id)]).decode()
    assert "line 3" in text
    assert "succeeded" in text
    assert (await site.operations.get(operation.id)).state is State.SUCCEEDED


async def test_pull_credentials_pull_and_nothing_else(site):
    version = await site.upload(SCRATCH, "t-rights")
    await site.build(version)
    build = await site.build_of(version)
    login = await site.registry.pull_login("dev-bbbbbbbbbbbbbbbb")
    assert (await site.registry.pull_login("dev-bbbbbbbbbbbbbbbb")).password == login.password
    mine = RegistryLogin(login.name, login.password)
    await site.docker.tag(
        "haechi-build/t-rights:linux-amd64", f"{site.parts.names.pull}/t-evil", "1"
    )
    await site.docker.tag(
        "haechi-build/t-rights:linux-amd64", f"{site.parts.names.push}/t-evil", "1"
    )
    for door in (site.parts.names.pull, site.parts.names.push):
        with pytest.raises(Exception, match="engine"):
            await site.docker.push(f"{door}/t-evil:1", login=mine)
        await site.docker.remove_image(f"{door}/t-evil:1")
    await site.registry.revoke_pull("dev-bbbbbbbbbbbbbbbb")
    await site.docker.remove_image("haechi-build/t-rights:linux-amd64", force=True)
    for wrong in (mine, RegistryLogin("dev-bbbbbbbbbbbbbbbb", Secret("guess")), None):
        with pytest.raises(Exception, match="registry_denied"):
            await site.docker.pull(build.image, login=wrong)
