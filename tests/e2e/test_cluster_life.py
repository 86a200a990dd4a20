"""A cluster from forming to the proof in the browser: a whole server, whose hosts are in memory.

What hosts and Kubernetes really do is the lab's to test; here it is what an operator sees of it.
"""

import asyncio
import io
import re
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import expect

from haechi.domains.clusters.context import Pace
from haechi.domains.clusters.errors import HostStepFailed
from haechi.domains.clusters.ports import HostFinding
from haechi.testing.clusters import FakeSite
from haechi.testing.server import ADMIN_PASSWORD, RunningServer, running_server
from haechi.testing.upkeep import FakeProbe, UpkeepSite

pytestmark = pytest.mark.integration

PACE = Pace(retry_s=0.01, away_s=0.3, poll_s=0.01, api_s=5.0, ready_s=30.0, drain_s=0.1, grace_s=1)
NAMES = ("master", "edge-1", "edge-2", "spare")
START_S = 240
WORK_MS = 120_000


@dataclass
class HostedSite:
    """A server in a loop of its own thread: the browser's API is not asynchronous."""

    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    up: threading.Event = field(default_factory=threading.Event)
    end: asyncio.Event = field(default_factory=asyncio.Event)
    hosts: FakeSite = field(default_factory=FakeSite)
    probe: FakeProbe = field(default_factory=FakeProbe)
    ids: dict[str, str] = field(default_factory=dict)
    url: str = ""

    async def live(self, folder) -> None:
        async with running_server(folder) as server:
            await self._furnish(server)
            self.url = server.url
            self.up.set()
            await self.end.wait()

    async def _furnish(self, server: RunningServer) -> None:
        context = server.haechi.clusters.context
        context.hosts, context.work, context.kubes = (
            self.hosts.hosts,
            self.hosts.work,
            self.hosts.kubes,
        )
        context.releases, context.pace = self.hosts.releases, PACE
        context.hooks.clear()
        server.haechi.upkeep.watching.probe = self.probe
        lab = UpkeepSite(self.hosts)
        for place, name in enumerate(NAMES):
            made = await server.client.post(
                "/devices",
                json={"name": name, "host_name": name, "address": f"192.0.2.{place + 1}"},
            )
            self.ids[name] = made.json()["id"]
            self.hosts.host(self.ids[name], name=name)
            lab.prepare(self.ids[name])

    def hold(self, act: str, name: str):
        """The host stops there; what is given back lets it go on."""
        event = asyncio.Event()
        self.hosts.work.hold[act, self.ids[name]] = event
        return lambda: self.loop.call_soon_threadsafe(event.set)


@pytest.fixture
def site(tmp_path_factory) -> Iterator[HostedSite]:
    hosted = HostedSite()
    thread = threading.Thread(target=hosted.loop.run_forever)
    thread.start()
    life = asyncio.run_coroutine_threadsafe(
        hosted.live(tmp_path_factory.mktemp("hosted")), hosted.loop
    )
    life.add_done_callback(lambda _: hosted.up.set())
    try:
        assert hosted.up.wait(START_S), "the server did not start in time"
        if life.done():
            life.result()
        yield hosted
    finally:
        hosted.loop.call_soon_threadsafe(hosted.end.set)
        try:
            life.result(120)
        finally:
            hosted.loop.call_soon_threadsafe(hosted.loop.stop)
            thread.join(60)
            hosted.loop.close()


@pytest.fixture
def session_state(site, browser):
    context = browser.new_context(base_url=site.url)
    login = {"name": "admin", "password": ADMIN_PASSWORD}
    assert context.request.post("/api/v1/session", data=login, timeout=60_000).ok
    state = context.storage_state()
    context.close()
    return state


# --- steps


def begin(page, name: str = "정문", workers: tuple[str, ...] = ("edge-1", "edge-2")):
    page.goto("/clusters")
    page.get_by_role("button", name="클러스터 만들기").first.click()
    form = page.get_by_role("dialog")
    form.get_by_label("이름", exact=True).fill(name)
    for device in ("master", *workers):
        role = "제어 노드" if device == "master" else "작업 노드"
        form.get_by_role("radiogroup", name=f"{device}의 역할").get_by_role(
            "radio", name=role
        ).click()
    return form


def form_it(page, **given) -> None:
    begin(page, **given).get_by_role("button", name="만들기", exact=True).click()
    expect(page).to_have_url(re.compile(r"/clusters/clu-"), timeout=WORK_MS)


def formed(page, **given) -> None:
    form_it(page, **given)
    expect(page.get_by_role("heading", level=1)).to_contain_text("정상 구성", timeout=WORK_MS)


def nodes(page):
    return page.get_by_role("table", name="노드")


def node(page, name: str):
    return nodes(page).get_by_role("row").filter(has_text=name)


def drawer_ends(page, state: str) -> None:
    drawer = page.get_by_role("complementary", name="작업")
    expect(drawer.get_by_text(state, exact=True).first).to_be_visible(timeout=WORK_MS)
    drawer.get_by_role("button", name="닫기").click()


# --- tests


def test_plan_and_accepted_warnings_before_anything_is_done(signed_in, site):
    page = signed_in
    edge = site.ids["edge-1"]
    site.hosts.work.findings_of.append(
        HostFinding(edge, "edge-1", "few_cores", "warning", "clusters.few_cores", {})
    )
    form = begin(page)
    form.get_by_role("button", name="계획 보기").click()
    plan = form.get_by_role("region", name="계획")
    expect(plan).to_contain_text("1.36.3")
    expect(plan.get_by_role("listitem").first).to_be_visible()
    form.get_by_role("button", name="점검", exact=True).click()
    result = form.get_by_role("region", name="점검 결과")
    expect(result.get_by_role("listitem", name="master")).to_contain_text("문제 없음")
    expect(result.get_by_role("listitem", name="edge-1")).to_contain_text("few_cores")
    act = form.get_by_role("button", name="만들기", exact=True)
    expect(act).to_be_disabled()
    form.get_by_label("few_cores").check()
    expect(result.get_by_role("status")).to_contain_text("준비되었습니다")
    act.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("정상 구성", timeout=WORK_MS)


def test_progress_is_shown_host_by_host_and_a_failed_host_says_why(signed_in, site):
    page = signed_in
    go_on = site.hold("prepare", "edge-1")
    site.hosts.work.failures["prepare", site.ids["edge-2"]] = HostStepFailed(
        host="edge-2", step="prepare", reason="No space left on device"
    )
    form_it(page)
    hosts = page.get_by_role("list", name="호스트별 진행 상황").get_by_role("listitem")
    expect(hosts.filter(has_text="edge-1")).to_contain_text("준비하는 중", timeout=WORK_MS)
    failed = hosts.filter(has_text="edge-2")
    expect(failed).to_contain_text("No space left on device", timeout=WORK_MS)
    expect(failed).to_contain_text("→")
    go_on()
    expect(page.get_by_role("heading", level=1)).to_contain_text("정상 구성", timeout=WORK_MS)
    expect(failed).to_contain_text("No space left on device")
    expect(node(page, "edge-1")).to_contain_text("참여함")
    expect(node(page, "edge-2")).to_contain_text("실패")


def test_a_node_that_goes_away_is_shown_with_the_reason_and_comes_back(signed_in, site):
    page = signed_in
    formed(page)
    expect(node(page, "edge-1")).to_contain_text("정상", timeout=WORK_MS)
    address = site.hosts.hosts.hosts[site.ids["edge-1"]].host.address
    site.loop.call_soon_threadsafe(site.probe.vanish, address)
    expect(node(page, "edge-1")).to_contain_text("중단", timeout=WORK_MS)
    expect(node(page, "edge-1")).to_contain_text("전원이 꺼졌거나")
    expect(node(page, "edge-1")).to_contain_text("→")
    page.goto("/clusters")
    row = page.get_by_role("row").filter(has_text="정문")
    expect(row).to_contain_text("2/3")
    expect(row).to_contain_text("응답함")
    page.goto(f"/devices/{site.ids['edge-1']}")
    expect(page.get_by_text("전원이 꺼졌거나").first).to_be_visible()
    site.loop.call_soon_threadsafe(site.probe.come_back, address)
    expect(page.get_by_text("전원이 꺼졌거나")).to_have_count(0, timeout=WORK_MS)
    expect(page.get_by_role("link", name="정문")).to_be_visible()


def test_nodes_are_added_and_removed(signed_in, site):
    page = signed_in
    formed(page, workers=("edge-1",))
    page.get_by_role("button", name="노드 추가").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("spare").check()
    # What an earlier cluster left there is removed only where that is said.
    site.hosts.work.leftovers.add(site.ids["spare"])
    dialog.get_by_role("button", name="점검", exact=True).click()
    result = dialog.get_by_role("region", name="점검 결과")
    expect(result.get_by_role("listitem", name="spare")).to_contain_text("--clean-leftovers")
    add = dialog.get_by_role("button", name="추가", exact=True)
    expect(add).to_be_disabled()
    dialog.get_by_label("이전 클러스터의 흔적 지우기").check()
    dialog.get_by_role("button", name="점검", exact=True).click()
    expect(result.get_by_role("status")).to_contain_text("준비되었습니다")
    add.click()
    drawer_ends(page, "완료")
    expect(node(page, "spare")).to_contain_text("참여함")
    node(page, "edge-1").get_by_role("button", name="제거").click()
    page.get_by_role("dialog").get_by_role("button", name="제거").click()
    drawer_ends(page, "완료")
    expect(node(page, "edge-1")).to_have_count(0)
    expect(page.get_by_role("heading", name="정리 증명")).to_be_visible()


def test_backups_certificates_kubeconfig_and_a_new_name(signed_in, site):
    page = signed_in
    formed(page)
    page.get_by_role("button", name="지금 백업").click()
    drawer_ends(page, "완료")
    backups = page.get_by_role("table", name="백업")
    expect(backups).to_contain_text("요청")
    with page.expect_download() as taken:
        backups.get_by_role("link", name="내려받기").click()
    with tarfile.open(fileobj=io.BytesIO(taken.value.path().read_bytes())) as archive:
        assert "etc/kubernetes/pki/ca.key" in archive.getnames()

    page.get_by_role("button", name="호스트에서 읽기").click()
    certificates = page.get_by_role("table", name="인증서")
    expect(certificates).to_contain_text("apiserver")
    expect(certificates).to_contain_text("인증 기관")

    with page.expect_download() as taken:
        page.get_by_role("button", name="kubeconfig 내려받기").click()
    assert taken.value.suggested_filename == "정문.kubeconfig"
    assert "haechi.internal" in taken.value.path().read_text()

    page.get_by_role("button", name="이름 바꾸기").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("이름", exact=True).fill("후문")
    dialog.get_by_role("button", name="저장").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("후문")

    backups.get_by_role("button", name="복원").click()
    restore = dialog.get_by_role("button", name="복원", exact=True)
    expect(restore).to_be_disabled()
    page.keyboard.press("Escape")
    backups.get_by_role("button", name="삭제").click()
    dialog.get_by_role("button", name="삭제").click()
    expect(page.get_by_text("백업이 없습니다")).to_be_visible()


def test_deletion_is_confirmed_by_name_and_ends_in_the_proof(signed_in, site):
    page = signed_in
    formed(page)
    site.hosts.hosts.hosts[site.ids["edge-2"]].put("/etc/left-behind", "x")
    page.get_by_role("button", name="삭제", exact=True).first.click()
    dialog = page.get_by_role("dialog")
    act = dialog.get_by_role("button", name="삭제", exact=True)
    expect(act).to_be_disabled()
    dialog.get_by_label("확인하려면 이름").fill("정문")
    act.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("삭제됨", timeout=WORK_MS)
    proof = page.locator("section").filter(
        has=page.get_by_role("heading", name="정리 증명", exact=True)
    )
    hosts = proof.get_by_role("listitem")
    expect(hosts.filter(has_text="edge-1")).to_contain_text("이전과 같음")
    differing = hosts.filter(has_text="edge-2")
    expect(differing).to_contain_text("다름")
    expect(differing).to_contain_text("/etc/left-behind")
    page.goto("/clusters")
    expect(page.get_by_role("row").filter(has_text="정문")).to_have_count(0)
