"""Docker hosts without an agent, and a server that speaks HTTPS; each scene with its own."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
import pytest_asyncio
from tests.lab.docks import LIMIT_S, SCRIPT, Dock, docked, zip_of

from lab import faults

pytestmark = pytest.mark.asyncio(loop_scope="module")


WITH_THE_CA = """\
import ssl

os.environ.pop("SSL_CERT_FILE", None)
trusting = ssl.create_default_context(cafile=os.environ["HAECHI_CA_FILE"])
opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=trusting))
urllib.request.install_opener(opener)
"""
WITHOUT = """\
for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
    os.environ.pop(name, None)
"""
BY_SDK = """\
from haechi_sdk import Haechi

haechi = Haechi()
while not haechi.wait(0.3):
    haechi.result(None, name="tick", prob=0.9, attributes={"v": "{version}"})
"""


@pytest_asyncio.fixture(loop_scope="module")
async def safe_dock(tmp_path: Path) -> AsyncIterator[Dock]:
    """The server speaks HTTPS, by a certificate of the site's CA."""
    async with docked(tmp_path / "data", tls="on") as made:
        yield made


async def test_results_over_https(safe_dock: Dock):
    """A plain client trusts the site's CA by its environment, one that makes its own context by the
    file, the SDK by itself; whoever trusts only the world's CAs is kept from talking to anybody.
    """
    dock = safe_dock
    assert dock.server.url.startswith("https://")
    async with httpx2.AsyncClient(trust_env=False, timeout=60) as stranger:
        with pytest.raises(httpx2.ConnectError):
            await stranger.get(f"{dock.server.url}/api/v1/session")
    head, loop = SCRIPT.split("\n\n", 1)
    own_context, blind = (f"{head}\n{more}\n{loop}" for more in (WITH_THE_CA, WITHOUT))
    device = await dock.device("gate", dock.host, dock.host.keeper)
    await dock.upload("1", zip_of("1"))
    await dock.upload("2", zip_of("2", own_context))
    await dock.upload("3", zip_of("3", BY_SDK, sdk=True))
    for version in ("1", "2", "3"):
        # `ready = "result"`: proven by what came over TLS.
        ended = await dock.deploy(version, device)
        assert ended.state == "succeeded", ended.error
        one = await dock.running(device)
        assert one["version"] == version
        await dock.until_more_results(one["id"])
    environment = await dock.host.shell(f"docker exec {one['name']} env")
    assert f"HAECHI_RESULTS_URL={dock.server.url}/api/v1/results" in environment
    trusted = await dock.host.shell(f"docker exec {one['name']} cat /etc/haechi/site-ca.pem")
    assert trusted.strip() == dock.server.haechi.ca.pem.strip()

    await dock.host.kill()
    await dock.host.start()
    await dock.until_more_results(one["id"])

    await dock.upload("4", zip_of("4", blind, more="within_s = 15\n"))
    failed = await dock.deploy("4", device)
    assert failed.state == "failed"
    assert failed.error["code"] == "deployments.not_proven"
    assert "CERTIFICATE_VERIFY_FAILED" in str(failed.error["data"]["log"])
    assert (await dock.running(device))["id"] == one["id"]


async def test_a_host_with_a_new_address_is_found_by_its_key(safe_dock: Dock):
    dock = safe_dock
    device = await dock.device("gate", dock.host, dock.host.robot)
    await dock.upload("1", zip_of("1"))
    assert (await dock.deploy("1", device)).state == "succeeded"
    one = await dock.running(device)
    new = await faults.readdress(dock.site, dock.host)
    async with asyncio.timeout(LIMIT_S):
        while (await dock.server.client.get(f"/devices/{device}")).json()["address"] != new:
            await asyncio.sleep(0.5)
    await dock.until_presence(device, "ok", "connected")
    await dock.until_more_results(one["id"])
    removed = await dock.ended(await dock.server.client.delete(f"/deployments/{one['id']}"))
    assert removed.ctx["result"]["outcome"] == "removed"
