"""Cameras with a wrong address or password, or gone, as the operator sees them: the camera's state
and why there is no picture. Real RTSP, real media, a real agent.
"""

import asyncio

import httpx2
import pytest
import pytest_asyncio

from haechi.testing.cameras import Login, simulated_cameras
from haechi.testing.processes import PASSWORD, free_ports

from .conftest import Agent, in_both_languages, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")
SECRET = "geheim-4712"


class Cameras:
    """What the tests look at: the simulator, and the server as its operator."""

    def __init__(self, server, agent, simulated, api):
        self.server = server
        self.agent = agent
        self.simulated = simulated
        self.api = api
        self.ids = {}

    async def add(self, name, url):
        body = {"name": name, "url": url, "device_id": self.agent.id}
        answer = await self.api.post("/cameras", json=body)
        self.ids[name] = answer.raise_for_status().json()["id"]

    async def edit(self, name, **changes):
        path = f"/cameras/{self.ids[name]}"
        answer = await self.api.patch(path, json=changes, headers={"If-Match": "*"})
        assert answer.status_code == 200, answer.text

    async def state(self, name):
        return (await self.api.get(f"/cameras/{self.ids[name]}")).json()["state"]

    async def still(self, name, language="en"):
        headers = {"Accept-Language": language}
        return await self.api.get(f"/cameras/{self.ids[name]}/still", headers=headers)

    async def refused(self, name, status, code):
        """No picture, for that reason, told in both languages and without the password."""
        answers = {language: await self.still(name, language) for language in ("ko", "en")}
        for answer in answers.values():
            assert answer.status_code == status, answer.text
            assert answer.json()["code"] == code, answer.text
            assert name in answer.json()["detail"]
            assert SECRET not in answer.text
        in_both_languages(lambda language: answers[language].json())

    async def until(self, true, within_s=150):
        async with asyncio.timeout(within_s):
            while not await true():
                await asyncio.sleep(0.1)

    async def until_state(self, name, state):
        async def there():
            return await self.state(name) == state

        await self.until(there)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cameras")
    async with simulated_cameras("gate", "path") as simulated:
        with serving(folder / "server") as server:
            with server.client() as client:
                agent = Agent(server, client, "nuc", folder / "nuc", "--docker-socket=")
            agent.start()
            async with httpx2.AsyncClient(
                base_url=f"{server.url}/api/v1", timeout=60, trust_env=False
            ) as api:
                login = {"name": "admin", "password": PASSWORD}
                (await api.post("/session", json=login)).raise_for_status()
                try:
                    yield await furnished(Cameras(server, agent, simulated, api))
                finally:
                    agent.stop()
            assert SECRET not in server.log
            assert SECRET not in agent.log
            assert "Traceback" not in agent.log


async def furnished(made):
    gate = made.simulated["gate"]
    await made.add("good", gate.main_url)
    await made.add("wrong password", gate.url(login=Login("root", SECRET)))
    await made.add("wrong user", gate.url(login=Login("nobody", SECRET)))
    await made.add("wrong port", f"rtsp://root:{SECRET}@127.0.0.1:{free_ports(1)[0]}/x")
    await made.add("wrong path", gate.main_url.replace("media.amp", "nothing.amp"))
    await made.add("leaving", made.simulated["path"].main_url)

    async def pictured():
        return (await made.still("good")).status_code == 200

    await made.until(pictured)
    return made


async def test_a_good_camera_beside_bad_ones_is_not_hurt(site):
    answer = await site.still("good")
    assert answer.headers["content-type"] == "image/jpeg"
    await site.until_state("good", "ok")


@pytest.mark.parametrize("name", ["wrong password", "wrong user"])
async def test_a_wrong_login(site, name):
    await site.refused(name, 502, "video.camera_wrong_password")
    await site.until_state(name, "unauthorized")


async def test_nobody_at_the_address(site):
    await site.refused("wrong port", 502, "video.camera_unreachable")
    await site.until_state("wrong port", "offline")


async def test_another_path(site):
    await site.refused("wrong path", 502, "video.camera_stream_not_found")


async def test_a_login_put_right_is_taken_up(site):
    gate = site.simulated["gate"]
    await site.edit("wrong password", url=gate.main_url)

    async def pictured():
        return (await site.still("wrong password")).status_code == 200

    await site.until(pictured)
    await site.until_state("wrong password", "ok")


async def test_a_camera_goes_and_comes_back(site):
    async def pictured():
        return (await site.still("leaving")).status_code == 200

    await site.until(pictured)
    await site.simulated.stop("path")
    await site.until_state("leaving", "offline")
    await site.refused("leaving", 502, "video.camera_unreachable")
    await site.simulated.restart("path")
    await site.until(pictured)
    await site.until_state("leaving", "ok")


async def test_a_camera_of_no_device_and_a_device_that_is_away(site):
    body = {"name": "homeless", "url": "rtsp://127.0.0.1/x"}
    site.ids["homeless"] = (await site.api.post("/cameras", json=body)).json()["id"]
    await site.refused("homeless", 409, "video.camera_without_device")
    site.agent.kill()

    async def away():
        return (await site.still("good")).json().get("code") == "agents.not_connected"

    await site.until(away)
    answer = await site.still("good")
    assert answer.status_code == 503
    assert answer.json()["remedy"]
    site.agent.start()

    async def pictured():
        return (await site.still("good")).status_code == 200

    await site.until(pictured)
