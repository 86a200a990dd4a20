"""The registry's processes: space given back, ends and returns, credentials, crashes."""

import asyncio
import contextlib
import os
import signal
import ssl
import sys
import textwrap
import uuid
from pathlib import Path

import pytest

from haechi.adapters.docker_api import RegistryLogin, gateway_of
from haechi.adapters.docker_errors import RegistryUnreachable
from haechi.adapters.docker_trust import unwire_docker_host, wire_docker_host
from haechi.adapters.registry_setup import HOSTS_FILE, PULL_NAME
from haechi.core.access import SYSTEM
from haechi.core.clock import SystemClock
from haechi.core.operations import State
from haechi.core.pki import SiteCa
from haechi.core.secrets import Keyring
from haechi.domains.builds.model import RegistryDown

from .conftest import free_port, open_site

ROOT = Path(__file__).parents[3]


def blob(size: int) -> bytes:
    return os.urandom(size)


async def until(condition, timeout_s=30):
    async with asyncio.timeout(timeout_s):
        while not await condition():
            await asyncio.sleep(0.05)


def children_of(site) -> dict[str, int]:
    return {role: child.pid for role, child in site.parts.process._children.items()}


async def test_deleting_a_version_really_frees_its_space_and_no_other(site):
    dockerfile = "FROM scratch\nCOPY x /x\n"
    keep = await site.upload({"Dockerfile": dockerfile, "x": blob(300_000)}, "t-space", "1")
    drop = await site.upload({"Dockerfile": dockerfile, "x": blob(900_000)}, "t-space", "2")
    for version in (keep, drop):
        assert (await site.build(version)).state is State.SUCCEEDED
    before = await site.registry.state()
    (repository,) = before.repositories
    assert [tag.tag for tag in repository.tags] == ["1", "2"]
    sizes = {tag.tag: tag.size_bytes for tag in repository.tags}
    assert sizes["2"] > 900_000 > sizes["1"] > 300_000
    assert repository.size_bytes >= sum(sizes.values()) - 10_000

    kept_image = (await site.build_of(keep)).image
    await site.packages.delete_version("t-space", "2", by=SYSTEM)
    operation = await site.registry.collect()
    ended = await site.operations.wait(operation.id)
    assert ended.state is State.SUCCEEDED, site.log(ended)
    assert ended.ctx["result"]["freed_bytes"] > 900_000
    after = await site.registry.state()
    assert [tag.tag for tag in after.repositories[0].tags] == ["1"]
    assert after.used_bytes < before.used_bytes - 900_000
    assert (await site.builds.find(version_id=drop.id)).items == []

    await site.docker.remove_image("haechi-build/t-space:linux-amd64", force=True)
    login = await site.registry.pull_login("dev-aaaaaaaaaaaaaaaa")
    await site.docker.pull(kept_image, login=RegistryLogin(login.name, login.password))
    await site.docker.remove_image(kept_image)


async def test_what_is_deployed_survives_the_deletion_of_its_version(site):
    version = await site.upload({"Dockerfile": "FROM scratch\nCOPY x /x\n", "x": "1"}, "t-used")
    await site.build(version)
    build = await site.build_of(version)

    async def deployed(tx):
        return {build.digest}

    site.registry.on_use_check(deployed)
    await site.packages.delete("t-used", by=SYSTEM)
    ended = await site.operations.wait((await site.registry.collect()).id)
    assert ended.state is State.SUCCEEDED
    assert await site.parts.client.manifest("t-used", build.digest) is not None


async def test_superseded_images_go_where_deployments_are_asked(site):
    version = await site.upload({"Dockerfile": "FROM scratch\nCOPY x /x\n", "x": "1"}, "t-old")
    digests = []
    for text in ("1", "2", "3"):
        await site.replace({"Dockerfile": "FROM scratch\nCOPY x /x\n", "x": text}, "t-old")
        assert (await site.build(version)).state is State.SUCCEEDED
        digests.append((await site.build_of(version)).digest)
    assert len(set(digests)) == 3

    async def left():
        ended = await site.operations.wait((await site.registry.collect()).id)
        assert ended.state is State.SUCCEEDED, site.log(ended)
        found = [await site.parts.client.manifest("t-old", digest) for digest in digests]
        return [manifest is not None for manifest in found]

    assert await left() == [True, True, True]

    async def deployed(tx):
        return {digests[1]}

    site.registry.on_use_check(deployed)
    assert await left() == [False, True, True]


async def test_a_renewed_certificate_is_taken_up(site, tmp_path):
    before = children_of(site)
    assert not await site.parts.process.renew_certificate()
    (tmp_path / "pki" / "registry.pem").unlink()
    assert await site.parts.process.renew_certificate()
    assert not set(before.values()) & set(children_of(site).values())
    await site.parts.client.ping()


async def test_builds_during_a_collection_are_not_lost(site):
    dockerfile = "FROM scratch\nCOPY x /x\n"
    versions = [
        await site.upload({"Dockerfile": dockerfile, "x": blob(200_000)}, "t-race", str(number))
        for number in range(4)
    ]
    builds = [await site.builds.build_version(version.id) for version in versions]
    for _ in range(3):
        collected = await site.operations.wait((await site.registry.collect()).id)
        assert collected.state is State.SUCCEEDED, site.log(collected)
    for operation in builds:
        ended = await site.operations.wait(operation.id)
        assert ended.state is State.SUCCEEDED, site.log(ended)
    login = await site.registry.pull_login("dev-aaaaaaaaaaaaaaaa")
    await site.docker.remove_image("haechi-build/t-race:linux-amd64", force=True)
    for version in versions:
        image = (await site.build_of(version)).image
        await site.docker.pull(image, login=RegistryLogin(login.name, login.password))
        await site.docker.remove_image(image)


async def test_a_killed_registry_comes_back_and_a_build_waits_for_it(site):
    version = await site.upload({"Dockerfile": "FROM scratch\nCOPY x /x\n", "x": "k"}, "t-kill")
    before = children_of(site)
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    ended = await site.build(version)
    assert ended.state is State.SUCCEEDED, site.log(ended)

    async def back():
        return set(children_of(site)) == {"pull", "push"}

    await until(back)
    assert not set(before.values()) & set(children_of(site).values())


async def test_without_its_registry_the_client_says_so(tmp_path):
    async with open_site(tmp_path) as site:
        await site.registry.close()
        with pytest.raises(RegistryDown):
            await site.parts.client.ping()
        state = await site.registry.state()
        assert not state.running


async def test_it_dies_with_a_killed_server_and_a_new_one_takes_over(tmp_path):
    ports = (free_port(), free_port())
    program = textwrap.dedent(
        f"""
        import asyncio, pathlib, sys
        sys.path.insert(0, {str(ROOT)!r})
        sys.path.insert(0, {str(ROOT / "src")!r})
        from tests.integration.builds.conftest import open_site

        async def main():
            async with open_site(pathlib.Path({str(tmp_path)!r}), {ports!r}) as site:
                pids = [child.pid for child in site.parts.process._children.values()]
                print(*pids, flush=True)
                await asyncio.sleep(600)

        asyncio.run(main())
        """
    )
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(30):
        pids = [int(word) for word in (await server.stdout.readline()).split()]
    assert len(pids) == 2
    server.kill()
    await server.wait()

    async def dead():
        return not any(alive(pid) for pid in pids)

    await until(dead)
    async with open_site(tmp_path, ports) as site:
        await site.parts.client.ping()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


async def test_a_stale_registry_is_found_by_its_pid_file_and_replaced(tmp_path):
    async with open_site(tmp_path) as site:
        pull = int(site.parts.process._listen["pull"].rpartition(":")[2])
        push = int(site.parts.process._listen["push"].rpartition(":")[2])
        config = tmp_path / "registry" / "push.yml"
    stale = await asyncio.create_subprocess_exec(
        "docker-registry", "serve", str(config), stderr=asyncio.subprocess.DEVNULL
    )
    (tmp_path / "registry" / "push.pid").write_text(f"{stale.pid}\n")
    async with open_site(tmp_path, (pull, push)) as site:
        await site.parts.client.ping()
        async with asyncio.timeout(60):
            assert await stale.wait() == -signal.SIGKILL


async def test_files_with_secrets_are_the_owners_only(site, tmp_path):
    folder = tmp_path / "registry"
    assert folder.stat().st_mode & 0o077 == 0
    for name in ("pull.yml", "push.yml", "pull.htpasswd", "push.htpasswd"):
        assert (folder / name).stat().st_mode & 0o077 == 0, name
    secret = site.parts.process.push_login.password.reveal()
    for path in folder.glob("*.*"):
        assert secret not in path.read_text(errors="replace"), path


@pytest.fixture
async def bridge(site):
    """The host's address on a bridge network: not loopback, where Docker would trust anything."""
    name = f"haechi-test-{uuid.uuid4().hex[:8]}"
    yield gateway_of(await site.docker.ensure_bridge(name, internal=False))
    await site.docker.remove_network(name)


async def test_the_docker_of_a_device_trusts_by_the_ca_alone(tmp_path, site, bridge):
    version = await site.upload({"Dockerfile": "FROM scratch\nCOPY x /x\n", "x": "t"}, "t-trust")
    await site.build(version)
    build = await site.build_of(version)
    login = await site.registry.pull_login("dev-aaaaaaaaaaaaaaaa")
    await site.docker.remove_image("haechi-build/t-trust:linux-amd64", force=True)
    # A name of its own: the machine's real one may be in use by a running site.
    name, port = f"{uuid.uuid4().hex[:8]}.haechi.internal", free_port()
    wiring = {
        "config_home": Path("/etc/docker"),
        "hosts_file": HOSTS_FILE,
        "name": name,
        "port": port,
    }
    reference = f"{name}:{port}/t-trust@{build.digest}"
    mine = RegistryLogin(login.name, login.password)
    ca = SiteCa.open(
        tmp_path / "pki",
        server_id="srv-test",
        keyring=Keyring.open(tmp_path / "keyring"),
        clock=SystemClock(),
    )
    files = ca.server_files("trust", [name])
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(files.certificate, files.key)
    relay = relay_to(int(site.parts.names.pull.rpartition(":")[2]), site.parts.ca_pem)
    ca_file = Path("/etc/docker/certs.d") / f"{name}:{port}" / "ca.crt"
    try:
        async with await asyncio.start_server(relay, bridge, port, ssl=tls):
            assert wire_docker_host(**wiring, address=bridge, ca_pem=ca.pem)
            assert not wire_docker_host(**wiring, address=bridge, ca_pem=ca.pem)
            ca_file.unlink()
            with pytest.raises(Exception, match=r"x509|certificate"):
                await pull_once_resolved(site, reference, mine)
            assert wire_docker_host(**wiring, address=bridge, ca_pem=ca.pem)
            await site.docker.pull(reference, login=mine)
            await site.docker.remove_image(reference)
    finally:
        unwire_docker_host(**wiring)
    assert name not in HOSTS_FILE.read_text()
    assert not ca_file.parent.exists()


async def pull_once_resolved(site, reference, login):
    """dockerd looks into the hosts file every 5 s."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await site.docker.pull(reference, login=login)
            except RegistryUnreachable as error:
                if "no such host" not in str(error):
                    raise
            await asyncio.sleep(0.2)


def relay_to(port: int, ca_pem: str):
    """Ends TLS under its own certificate and goes on to the registry."""
    trust = ssl.create_default_context(cadata=ca_pem)

    async def pump(source, target):
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                target.write(data)
                await target.drain()
            target.close()

    async def relay(reader, writer):
        there, back = await asyncio.open_connection(
            "127.0.0.1", port, ssl=trust, server_hostname=PULL_NAME
        )
        await asyncio.gather(pump(reader, back), pump(there, writer))

    return relay
