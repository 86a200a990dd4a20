"""The main job by hand: what an operator presses, on a real site with agents and a camera.

One small site for all tests of this file, in their order: two devices, one camera on the first.
"""

import asyncio
import re
import secrets
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import expect

from haechi.testing import packages

sys.path.insert(0, str(Path(__file__).parents[2] / "demo"))

from stage import GIB, DevicePlan, Site, free_ports

pytestmark = pytest.mark.docker

PLANS = (
    DevicePlan("one", "", 0.7, GIB, ("gate",)),
    DevicePlan("two", "", 0.7, GIB, ()),
)
START_S = 240
WORK_MS = 240_000
"""A build or a deployment on a busy machine."""


@dataclass
class LiveSite:
    """A stage's site in a loop of its own thread: the browser's API is not asynchronous."""

    stage: Site
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    up: threading.Event = field(default_factory=threading.Event)
    end: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return self.stage.url

    async def live(self) -> None:
        async with self.stage as made:
            await made.start_server()
            await made.furnish(await made.start_cameras())
            await made.start_agents()
            self.up.set()
            await self.end.wait()


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[LiveSite]:
    folder = tmp_path_factory.mktemp("live") / "site"
    live = LiveSite(Site(folder, free_ports(), plans=PLANS, say=lambda _: None))
    thread = threading.Thread(target=live.loop.run_forever)
    thread.start()
    life = asyncio.run_coroutine_threadsafe(live.live(), live.loop)
    life.add_done_callback(lambda _: live.up.set())
    try:
        assert live.up.wait(START_S), "the site did not start in time"
        if life.done():
            life.result()
        yield live
    finally:
        live.loop.call_soon_threadsafe(live.end.set)
        try:
            life.result(60)
        finally:
            live.loop.call_soon_threadsafe(live.loop.stop)
            thread.join(10)
            live.loop.close()


@pytest.fixture(scope="module")
def session_state(site, browser):
    context = browser.new_context(base_url=site.url)
    login = {"name": "admin", "password": site.stage.password}
    assert context.request.post("/api/v1/session", data=login, timeout=60_000).ok
    state = context.storage_state()
    context.close()
    return state


def seeing(version: str) -> bytes:
    """Says a person in the middle of each of its cameras' pictures; refuses to compress."""
    script = f"""
import threading
from haechi_sdk import Haechi

haechi = Haechi()
cameras = {{}}

def listen():
    for change in haechi.assignments():
        if change.kind == "stopped":
            cameras.pop(change.assignment.camera_id, None)
        else:
            cameras[change.assignment.camera_id] = change.assignment

threading.Thread(target=listen, daemon=True).start()
haechi.ready()
print("version {version} is running", flush=True)
while not haechi.wait(0.3):
    for assignment in list(cameras.values()):
        box = {{"class": "person", "class_prob": 0.91, "box": [0.25, 0.25, 0.5, 0.5]}}
        haechi.result(assignment, objects=[box])
haechi.close()
"""
    return packages.zip_of(
        {
            "Dockerfile": (
                f"FROM {packages.BASE}\nWORKDIR /app\nCOPY main.py haechi_sdk.py ./\n"
                'CMD ["python3", "main.py"]\n'
            ),
            "main.py": script,
            "haechi_sdk.py": packages.sdk_source(),
            "weights.bin": secrets.token_bytes(400_000),
            "haechi.toml": (
                '[package]\nname = "seer"\n[needs]\ncamera = "many"\nmemory_mb = 64\n'
                '[health]\nready = "sdk"\nwithin_s = 120\n'
            ),
        }
    )


# --- steps


def drawer(page):
    return page.get_by_role("complementary", name="작업")


def ends(page, state: str) -> None:
    """The operation that the drawer shows ends so; then the drawer is closed."""
    work = drawer(page)
    expect(work.get_by_text(state, exact=True).first).to_be_visible(timeout=WORK_MS)
    work.get_by_role("button", name="닫기").click()


def open_package(page, name: str) -> None:
    page.goto("/packages")
    page.get_by_role("link", name=name).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(name)


def choose(page, name: str, version: str, content: bytes) -> None:
    page.locator("input[type=file]").set_input_files(
        {"name": f"{name}.zip", "mimeType": "application/zip", "buffer": content}
    )
    page.get_by_role("textbox", name="버전", exact=True).fill(version)
    page.get_by_role("button", name="올리기", exact=True).click()


def add_version(page, version: str, content: bytes) -> None:
    """Of the package that is shown: uploaded and built."""
    page.get_by_role("button", name="새 버전 올리기").click()
    choose(page, "seer", version, content)
    ends(page, "완료")


def version_row(page, version: str):
    rows = page.get_by_role("table", name="버전").get_by_role("row")
    return rows.filter(has=page.get_by_text(version, exact=True))


def deploy(page, version: str, *devices: str) -> None:
    version_row(page, version).get_by_role("button", name="배포").click()
    dialog = page.get_by_role("dialog")
    for device in devices:
        dialog.get_by_label(device, exact=True).check()
    dialog.get_by_role("button", name="배포", exact=True).click()
    expect(dialog).to_have_count(0)


def deployment(page, device: str):
    rows = page.get_by_role("table", name="배포").get_by_role("row")
    return rows.filter(has=page.get_by_role("link", name=device, exact=True))


def open_camera(page) -> None:
    page.goto("/cameras")
    page.get_by_role("link", name="정문").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("정문")


def mark(page) -> None:
    page.evaluate("window.notReloaded = true")


def expect_same_page(page) -> None:
    assert page.evaluate("window.notReloaded") is True


READ = """canvas => {
  const { width, height } = canvas;
  if (!width || !height) return [];
  const copy = new OffscreenCanvas(width, height);
  const pen = copy.getContext("2d", { willReadFrequently: true });
  pen.drawImage(canvas, 0, 0);
  return pen.getImageData(0, 0, width, height).data;
}"""
"""A canvas's bytes, by a copy: reading the page's own would make the browser warn."""

COUNT = f"""([canvas, color, wanted]) => {{
  const data = ({READ})(canvas);
  let count = 0;
  for (let i = 0; i < data.length; i += 4) {{
    const far = color.reduce((sum, part, k) => sum + Math.abs(part - data[i + k]), 0);
    if (data[i + 3] > 200 && far < 24) count += 1;
  }}
  return count >= wanted;
}}"""

SUM = f"canvas => ({READ})(canvas).reduce((sum, byte, at) => (sum * 31 + byte * at) % 1000003, 0)"


def wait_for_color(page, canvas, css_color: str, at_least: int) -> None:
    """Until the canvas shows so many pixels of this colour (#rrggbb)."""
    rgb = [int(css_color[at : at + 2], 16) for at in (1, 3, 5)]
    page.wait_for_function(
        COUNT, arg=[canvas.element_handle(), rgb, at_least], timeout=WORK_MS, polling=500
    )


# --- the tests


def test_the_camera_s_picture_appears_and_is_refreshed(signed_in):
    page = signed_in
    picture = page.get_by_role("img", name="정문 카메라의 현재 화면")
    expect(picture).to_be_visible()
    handle = picture.element_handle()
    page.wait_for_function(
        f"canvas => new Set(({READ})(canvas)).size > 20", arg=handle, timeout=WORK_MS, polling=500
    )
    first = picture.evaluate(SUM)
    page.wait_for_function(
        f"([canvas, first]) => ({SUM})(canvas) !== first",
        arg=[handle, first],
        timeout=WORK_MS,
        polling=500,
    )
    expect(page.get_by_text("분석하는 AI 없음")).to_be_visible()


def test_an_enrolled_device_can_be_given_a_new_command(signed_in):
    page = signed_in
    page.goto("/devices")
    row = page.get_by_role("row").filter(has_text="two")
    expect(row).to_contain_text("정상")
    row.get_by_role("link", name="two").click()
    page.get_by_role("button", name="등록 명령").click()
    expect(page.get_by_role("textbox", name="등록 명령")).to_have_value(
        re.compile(r"agent enrol|--token")
    )


def test_upload_shows_progress_and_the_build_its_log(signed_in):
    page = signed_in
    page.goto("/packages")
    page.get_by_role("button", name="패키지 올리기").first.click()
    slow = page.context.new_cdp_session(page)
    slow.send(
        "Network.emulateNetworkConditions",
        {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 300_000},
    )
    choose(page, "seer", "1", seeing("1"))
    expect(page.get_by_role("progressbar", name="올리는 중")).to_have_attribute(
        "aria-valuenow", re.compile("^[1-9]")
    )
    slow.detach()
    work = drawer(page)
    expect(work.get_by_role("log")).to_contain_text("FROM", timeout=WORK_MS)
    ends(page, "완료")
    expect(version_row(page, "1").get_by_role("button", name="배포")).to_be_visible()


def test_deployment_to_two_devices_becomes_running_without_a_reload(signed_in):
    page = signed_in
    open_package(page, "seer")
    mark(page)
    deploy(page, "1", "one", "two")
    expect(drawer(page).get_by_text("진행 중").first).to_be_visible()
    for device in ("one", "two"):
        expect(deployment(page, device)).to_contain_text("실행 중", timeout=WORK_MS)
    ends(page, "완료")
    expect_same_page(page)


def test_what_it_sees_is_on_the_tile_the_picture_and_in_the_results(signed_in):
    page = signed_in
    tile = page.get_by_role("link").filter(has=page.get_by_role("img", name="정문 카메라"))
    expect(tile).to_contain_text("person 1", timeout=WORK_MS)
    tile.click()
    picture = page.get_by_role("img", name="정문 카메라의 현재 화면")
    wait_for_color(page, picture, person_color(page), 200)
    recent = page.get_by_role("table", name="결과")
    expect(recent.get_by_role("row").nth(1)).to_contain_text("person 1")
    page.get_by_role("link", name="모두 보기").click()
    rows = page.get_by_role("table", name="결과").get_by_role("row")
    expect(rows.nth(1)).to_contain_text("seer:1")
    page.get_by_label("감지 종류").fill("horse")
    page.keyboard.press("Enter")
    expect(page.get_by_text("조건에 맞는 결과가 없습니다").first).to_be_visible()
    page.get_by_label("감지 종류").fill("person")
    page.keyboard.press("Enter")
    expect(rows.nth(1)).to_contain_text("person 1")


def person_color(page) -> str:
    """As the dashboard derives it from the class."""
    colors = ["#43bdb3", "#e5b04a", "#6ea8fe", "#c58af9", "#8bd17c", "#f28cb1", "#f0a05c"]
    number = 0
    for char in "person":
        number = (number * 31 + ord(char)) & 0xFFFFFFFF
    return colors[number % len(colors)]


def test_the_chart_has_a_line_where_the_deployment_began(signed_in, site):
    page = signed_in
    page.goto(f"/devices/{site.stage.devices['one']}")
    chart = page.get_by_role("figure", name="장치 CPU · 메모리 (점선: 배포 시점)")
    warn = page.evaluate(
        "getComputedStyle(document.documentElement).getPropertyValue('--c-warn').trim()"
    )
    wait_for_color(page, chart.locator("canvas"), warn, 30)


def test_the_camera_moves_to_the_other_device_and_back_by_hand(signed_in):
    page = signed_in
    open_camera(page)
    mark(page)
    row = page.get_by_role("table", name="할당").get_by_role("row").nth(1)
    expect(row).to_contain_text("one")
    row.get_by_role("button", name="옮기기").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("옮길 배포").select_option(label="two — seer:1")
    dialog.get_by_role("button", name="옮기기").click()
    expect(row).to_contain_text("two", timeout=WORK_MS)
    expect_same_page(page)
    page.goto("/results")
    page.get_by_label("장치").select_option(label="two")
    results = page.get_by_role("table", name="결과").get_by_role("row")
    expect(results.nth(1)).to_contain_text("person 1", timeout=WORK_MS)

    open_camera(page)
    row.get_by_role("button", name="끝내기").click()
    dialog.get_by_role("button", name="끝내기").click()
    expect(page.get_by_text("실행 중인 배포에 카메라를 할당하면")).to_be_visible()
    page.get_by_role("button", name="할당하기").first.click()
    dialog.get_by_label("분석할 배포").select_option(label="one — seer:1")
    dialog.get_by_role("button", name="할당하기").click()
    expect(row).to_contain_text("one")


def test_a_crashing_version_is_refused_with_its_last_words_and_the_old_one_stays(signed_in):
    page = signed_in
    open_package(page, "seer")
    add_version(page, "2", packages.crashing("seer"))
    deploy(page, "2", "two")
    alert = drawer(page).get_by_role("alert")
    expect(alert).to_contain_text("the model file is damaged", timeout=WORK_MS)
    ends(page, "실패")
    expect(deployment(page, "two")).to_have_count(1, timeout=WORK_MS)  # the failed one goes
    expect(deployment(page, "two")).to_contain_text("실행 중")
    expect(deployment(page, "two").get_by_text("1", exact=True).first).to_be_visible()


def test_a_version_goes_to_a_group_and_is_rolled_back_to_the_one_before(signed_in, site):
    page = signed_in
    open_package(page, "seer")
    add_version(page, "3", seeing("3"))
    group = {"name": "뒤쪽", "device_ids": [site.stage.devices["two"]]}
    assert page.request.post("/api/v1/groups", data=group).ok
    page.reload()
    version_row(page, "3").get_by_role("button", name="배포").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("대상 그룹").select_option(label="뒤쪽")
    expect(dialog.get_by_label("two", exact=True)).to_be_checked()
    dialog.get_by_role("button", name="배포", exact=True).click()
    ends(page, "완료")
    row = deployment(page, "two")
    expect(row.get_by_text("3", exact=True).first).to_be_visible()
    row.get_by_role("button", name="되돌리기").click()
    expect(dialog).to_contain_text("버전 1")
    dialog.get_by_role("button", name="되돌리기").click()
    ends(page, "완료")
    expect(row.get_by_text("1", exact=True).first).to_be_visible()
    row.get_by_role("button", name="로그").click()
    expect(dialog.get_by_role("log")).to_contain_text("version 1 is running", timeout=WORK_MS)


def test_playbooks_of_a_built_version_are_taken_along_for_a_group(signed_in):
    page = signed_in
    open_package(page, "seer")
    version_row(page, "1").get_by_role("button", name="플레이북").click()
    dialog = page.get_by_role("dialog")
    take = dialog.get_by_role("button", name="zip 내려받기")
    expect(take).to_be_disabled()
    dialog.get_by_label("대상 그룹").select_option(label="뒤쪽")
    with page.expect_download() as taken:
        take.click()
    assert taken.value.suggested_filename == "seer-1-playbooks.zip"
    with zipfile.ZipFile(taken.value.path()) as archive:
        assert any(name.endswith("deploy.yml") for name in archive.namelist())
    expect(dialog).to_have_count(0)


def test_a_running_build_is_cancelled(signed_in):
    page = signed_in
    page.goto("/packages")
    page.get_by_role("button", name="패키지 올리기").first.click()
    choose(page, "endless", "1", packages.endless_build())
    work = drawer(page)
    expect(work.get_by_role("log")).to_contain_text("started", timeout=WORK_MS)
    work.get_by_role("button", name="작업 취소").click()
    ends(page, "취소됨")
    expect(version_row(page, "1").get_by_role("button", name="빌드하기")).to_be_enabled()


def test_what_is_still_used_is_not_deleted_and_says_where(signed_in, watch):
    page = signed_in
    watch.refusals.add(409)
    open_package(page, "seer")
    page.get_by_role("button", name="삭제").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="삭제").click()
    expect(dialog.get_by_role("heading", name="사용 중인 곳")).to_be_visible()
    for device in ("one", "two"):
        expect(dialog.get_by_role("listitem").filter(has_text=device)).to_be_visible()
    dialog.get_by_role("button", name="취소").click()


def test_removed_deployments_let_the_package_go(signed_in):
    page = signed_in
    open_package(page, "seer")
    for device in ("one", "two"):
        deployment(page, device).get_by_role("button", name="제거").click()
        page.get_by_role("dialog").get_by_role("button", name="제거").click()
        ends(page, "완료")
        expect(deployment(page, device)).to_have_count(0)
    page.get_by_role("button", name="삭제").first.click()
    page.get_by_role("dialog").get_by_role("button", name="삭제").click()
    expect(page).to_have_url(re.compile("/packages$"))
    expect(page.get_by_role("link", name="seer")).to_have_count(0)
