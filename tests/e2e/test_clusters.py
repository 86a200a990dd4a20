"""Clusters before they are formed: hosts that cannot be reached, hosts that are not known yet."""

import asyncio
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from haechi.testing.ssh import SshServer

NOBODY = 1
"""A loopback port on which nothing listens."""
LOOK_MS = 240_000
"""A look at a host on a busy machine."""


@pytest.fixture(scope="module")
def host(tmp_path_factory) -> Iterator[SshServer]:
    """This machine behind an SSH server of its own, in a loop of its own thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    folder = Path(tmp_path_factory.mktemp("host"))

    async def started() -> SshServer:
        server = SshServer(folder)
        await server.start()
        return server

    server = asyncio.run_coroutine_threadsafe(started(), loop).result(60)
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(60)
        loop.close()


def add_device(page, name: str, port: int, **login: str) -> str:
    made = page.request.post(
        "/api/v1/devices", data={"name": name, "address": "127.0.0.1", "port": port, **login}
    )
    assert made.ok, made.text()
    return made.json()["id"]


def begin(page, name: str, roles: dict[str, str]):
    """The form, filled in as far as the hosts' roles."""
    page.goto("/clusters")
    page.get_by_role("button", name="클러스터 만들기").first.click()
    form = page.get_by_role("dialog")
    form.get_by_label("이름", exact=True).fill(name)
    for device, role in roles.items():
        choice = form.get_by_role("radiogroup", name=f"{device}의 역할")
        choice.get_by_role("radio", name=role).click()
    return form


def test_check_tells_every_finding_host_by_host_and_form_waits_for_them(signed_in):
    page = signed_in
    add_device(page, "꺼진 제어", NOBODY, ssh_user="kim", ssh_password="x")
    add_device(page, "꺼진 작업", NOBODY, ssh_user="kim", ssh_password="x")
    form = begin(page, "점검만", {"꺼진 제어": "제어 노드", "꺼진 작업": "작업 노드"})
    form.get_by_role("button", name="점검", exact=True).click()
    result = form.get_by_role("region", name="점검 결과")
    expect(result).to_be_visible(timeout=LOOK_MS)
    for device in ("꺼진 제어", "꺼진 작업"):
        host = result.get_by_role("listitem", name=device)
        expect(host).to_contain_text("오류")
        expect(host).to_contain_text("→")
    expect(result.get_by_role("status")).to_contain_text("문제가 2개")
    expect(form.get_by_role("button", name="만들기", exact=True)).to_be_disabled()
    # Another choice is another question: what was seen is shown no longer.
    form.get_by_role("radiogroup", name="꺼진 작업의 역할").get_by_role(
        "radio", name="없음"
    ).click()
    expect(result).to_have_count(0)


def test_an_unknown_host_is_accepted_by_name_and_then_looked_at_whole(signed_in, host):
    page = signed_in
    add_device(page, "처음 보는", host.port, ssh_user=host.user, ssh_password=host.password)
    form = begin(page, "처음", {"처음 보는": "제어 노드"})
    form.get_by_role("button", name="점검", exact=True).click()
    result = form.get_by_role("region", name="점검 결과")
    entry = result.get_by_role("listitem", name="처음 보는")
    expect(entry).to_contain_text("host_key_unknown", timeout=LOOK_MS)
    form.get_by_label("host_key_unknown").check()
    expect(entry).to_contain_text("받아들임")
    form.get_by_role("button", name="점검", exact=True).click()
    expect(result.get_by_text("host_key_unknown", exact=True)).to_have_count(0, timeout=LOOK_MS)
    expect(entry).to_be_visible(timeout=LOOK_MS)
    assert host.logins > 0


def test_forming_that_is_refused_shows_every_finding_and_leaves_the_devices_free(signed_in, watch):
    page = signed_in
    add_device(page, "없는 제어", NOBODY, ssh_user="kim", ssh_password="x")
    form = begin(page, "되지 않는", {"없는 제어": "제어 노드"})
    watch.refusals.update({404, 409, 422, 503})
    form.get_by_role("button", name="만들기", exact=True).click()
    expect(page).to_have_url(re.compile(r"/clusters/clu-"), timeout=LOOK_MS)
    expect(page.get_by_role("heading", level=1)).to_contain_text("실패", timeout=LOOK_MS)
    alert = page.get_by_role("alert").first
    expect(alert).to_contain_text("→")
    page.goto("/clusters")
    row = page.get_by_role("row").filter(has_text="되지 않는")
    expect(row).to_have_count(0)
    page.get_by_label("삭제되었거나 실패한 것도 보기").check()
    expect(row).to_contain_text("실패")


def test_a_viewer_sees_clusters_and_is_offered_no_change(page, site, browser, watch, signed_in):
    name, password = "cluster-viewer", "viewer-password-1"
    made = signed_in.request.post(
        "/api/v1/users", data={"name": name, "password": password, "role": "viewer"}
    )
    assert made.ok, made.text()
    context = browser.new_context(base_url=site.url, locale="ko-KR")
    context.set_default_timeout(60_000)
    try:
        login = context.request.post("/api/v1/session", data={"name": name, "password": password})
        assert login.ok
        changed = context.request.put(
            "/api/v1/me/password", data={"current": password, "new": f"{password}-new"}
        )
        assert changed.ok, changed.text()
        mine = context.new_page()
        watch.follow(mine)
        mine.goto("/clusters")
        expect(mine.get_by_role("heading", level=1)).to_contain_text("클러스터")
        expect(mine.get_by_label("불러오는 중")).to_have_count(0)
        expect(mine.get_by_role("button", name="클러스터 만들기")).to_have_count(0)
    finally:
        context.close()
