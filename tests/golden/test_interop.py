"""Every historic call with its reply, as written down in tests/golden/interop/*.json.

A file is a story: steps in order, each a call and its exact reply. Ids and digests that haechi
makes are masked by the order in which they appear (`<dev-1>`), and may be used in later calls.
`UPDATE_GOLDEN=1 pytest tests/golden/test_interop.py` writes the replies anew: read the difference.
"""

import json
import os
import re
from pathlib import Path

import pytest

from haechi.interop.codes import CODES
from haechi.testing import packages as zips
from haechi.testing.interop import InteropWorld

FOLDER = Path(__file__).parent / "interop"
STORIES = sorted(FOLDER.glob("*.json"))
_MADE = re.compile(
    r"\b(dev|clu|ver|op|dep|cam|pkg|req)-[a-z2-7]{16}(?![a-z2-7])|sha256:[0-9a-f]{64}"
)
_TIME = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_PORTS = re.compile(r'"port": "(6\d{3}|5\d{3}|3\d{4})"$')
NEVER = {"0001", "0002", "0012"}


class Masks:
    def __init__(self):
        self.names = {}
        self.counts = {}

    def hide(self, text):
        text = _MADE.sub(lambda found: self._name(found[0]), text)
        return _TIME.sub("<time>", text)

    def _name(self, made):
        if made not in self.names:
            kind = made.partition("-")[0] if ":" not in made else "digest"
            self.counts[kind] = self.counts.get(kind, 0) + 1
            self.names[made] = f"<{kind}-{self.counts[kind]}>"
        return self.names[made]

    def show(self, value):
        text = json.dumps(value, ensure_ascii=False)
        for made, name in self.names.items():
            text = text.replace(name, made)
        return json.loads(text)


async def act(world, step):
    """What happens beside the calls."""
    for name, maker in step.get("inbox", {}).items():
        kind, _, version = maker.partition(":")
        content = getattr(zips, kind)(**({"version": version} if version else {}))
        (world.path / "inbox" / name).write_bytes(content)
    for ref in step.get("enrol", []):
        device = await world.inventory.devices.get(ref)
        world.devices.connected.add(device.id)
        async with world.db.write() as tx:
            await world.inventory.devices.set_enrolment(tx, device.id, "enrolled")
    if "crash" in step:
        for version in await all_versions(world, step["crash"]):
            world.engine.behaviour[world.images._image(version, "").reference] = "crash"


async def all_versions(world, package):
    return [one.id for one in (await world.packages.versions(package)).items]


async def call(world, step, masks):
    method, path = step["call"].split(" ", 1)
    headers = step.get("headers", {})
    client = world.client_from(step["from"]) if "from" in step else world.client
    if "raw" in step:
        content = step["raw"].encode(step.get("encoding", "utf-8"))
        answer = await client.request(method, path, content=content, headers=headers)
    elif "query" in step:
        answer = await client.request(method, path, params=masks.show(step["query"]))
    elif "body" in step:
        answer = await client.request(method, path, json=masks.show(step["body"]), headers=headers)
    else:
        answer = await client.request(method, path, headers=headers)
    if "json" in answer.headers["content-type"]:
        reply = json.loads(masks.hide(answer.text))
    elif "zip" in answer.headers["content-type"]:
        reply = f"<zip of {len(answer.content) > 0}>"
    else:
        reply = answer.text
    if isinstance(reply, dict) and "port" in reply and "name" not in reply:
        reply["port"] = f"<{len(reply['port'])} digits from {reply['port'][0]}>"
    return {"status": answer.status_code, "reply": reply}


@pytest.mark.parametrize("story", STORIES, ids=lambda path: path.stem)
async def test_story(story, tmp_path):
    document = json.loads(story.read_text("utf-8"))
    world = InteropWorld(
        tmp_path,
        interop_settings=document.get("interop", {}),
        weather_settings=document.get("weather", {}),
    )
    await world.begin()
    masks = Masks()
    try:
        for step in document["steps"]:
            await act(world, step)
            if "call" not in step:
                continue
            found = await call(world, step, masks)
            if os.environ.get("UPDATE_GOLDEN"):
                step.update(found)
            assert found == {"status": step.get("status"), "reply": step.get("reply")}, step["call"]
            for operation in re.findall(r"<op-\d+>", json.dumps(found["reply"])):
                await world.operations.wait(masks.show(operation))
    finally:
        await world.end()
    if os.environ.get("UPDATE_GOLDEN"):
        text = json.dumps(document, ensure_ascii=False, indent=1)
        story.write_text(text + "\n", "utf-8")


def steps_of_all():
    for story in STORIES:
        for step in json.loads(story.read_text("utf-8"))["steps"]:
            if "call" in step:
                yield step


def test_every_endpoint_has_a_story(tmp_path):
    told = {re.sub(r"/$", "", step["call"]) for step in steps_of_all()}
    from haechi.interop.catalogue import describe

    known = {f"{one.method} {one.path}" for one in describe()}
    told |= {"GET /"} if "GET " in told else set()
    assert known - told == set()


def test_every_code_that_is_ever_sent_has_a_story():
    sent = {step["reply"].get("code") for step in steps_of_all() if isinstance(step["reply"], dict)}
    assert set(CODES) - NEVER - sent == {"0011"}  # a database that fails: tests/integration/interop


def test_messages_are_exactly_the_old_ones():
    assert {code: known.message for code, known in CODES.items()} == {
        "0000": "처리 성공",
        "0001": "YES",
        "0002": "NO",
        "0003": "ID 중복 오류",
        "0004": "ID 유효성 오류",
        "0005": "패스워드 오류",
        "0010": "Parsing 오류",
        "0011": "데이터베이스 연결 오류",
        "0012": "알 수 없는 오류",
        "0013": "Invalid 프로토콜 오류",
        "0014": "시스템 연동 오류",
        "0015": "필수 파라미터 Missing 오류",
        "0016": "길이 초과 오류",
        "0017": "규격에 없는 필드 오류",
        "0018": "날짜포맷 오류",
        "0019": "Invalid 코드 값 오류",
        "0020": "데이터 Missing 오류",
        "0021": "헤더정보 누락 오류",
        "9999": "기타 오류",
    }
