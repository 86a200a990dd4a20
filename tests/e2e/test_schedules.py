"""Schedules, maintenance hours and playbooks, as an operator makes them."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import expect

from haechi.testing import packages

WORK_MS = 240_000
"""A deployment that is given up, on a busy machine."""


def make(page, path: str, **fields) -> str:
    made = page.request.post(f"/api/v1/{path}", data=fields)
    assert made.ok, made.text()
    return made.json()["id"]


def upload(page, name: str) -> None:
    made = page.request.post(
        f"/api/v1/packages/upload?filename={name}.zip&version=1.0&name={name}",
        data=packages.sleeping(name),
        headers={"Content-Type": "application/zip"},
    )
    assert made.ok, made.text()


@pytest.fixture
def ground(signed_in):
    """A group with one device that nobody reaches, and a package that was never built."""

    def prepared(word: str) -> None:
        device = make(signed_in, "devices", name=f"{word} 장치")
        make(signed_in, "groups", name=f"{word} 그룹", device_ids=[device])
        upload(signed_in, f"{word}-sleeper")

    return prepared


def open_form(page, name: str, word: str):
    page.goto("/schedules")
    page.get_by_role("button", name="예약 추가").first.click()
    form = page.get_by_role("dialog")
    form.get_by_label("이름", exact=True).fill(name)
    form.get_by_label("패키지", exact=True).select_option(label=f"{word}-sleeper")
    form.get_by_label("대상 그룹", exact=True).select_option(label=f"{word} 그룹")
    return form


def test_a_schedule_is_made_paused_edited_run_and_deleted(signed_in, ground):
    page = signed_in
    ground("one")
    far = datetime.now(ZoneInfo("Asia/Seoul")) + timedelta(hours=12)  # not due while this runs
    at = far.strftime("%H:%M")
    form = open_form(page, "야간 배포", "one")
    add = form.get_by_role("button", name="추가", exact=True)
    expect(add).to_be_disabled()
    form.get_by_label("버전", exact=True).select_option(index=1)
    form.get_by_label("주기").select_option(label="평일마다")
    form.get_by_label("시각", exact=True).fill(at)
    expect(form.get_by_text(f"평일(월-금) {at}")).to_be_visible()
    expect(form.get_by_text(f"{far.minute} {far.hour} * * mon-fri")).to_be_visible()
    add.click()
    row = page.get_by_role("row").filter(has_text="야간 배포")
    expect(row).to_contain_text("one-sleeper:1.0")
    expect(row).to_contain_text("one 그룹")
    expect(row).to_contain_text(f"평일(월-금) {at}")
    expect(row).to_contain_text(f"{at}:00")
    expect(row).to_contain_text("실행한 적 없음")

    row.get_by_role("button", name="멈추기").click()
    expect(row).to_contain_text("멈춤")
    row.get_by_role("button", name="다시 시작").click()
    expect(row).to_contain_text(f"{at}:00")

    row.get_by_role("button", name="편집").click()
    expect(form.get_by_label("패키지", exact=True)).to_have_value(
        page.locator("option", has_text="one-sleeper").first.get_attribute("value") or ""
    )
    form.get_by_label("주기").select_option(label="cron 식")
    form.get_by_label("cron 식", exact=True).fill("0 4 29 2 *")
    form.get_by_role("button", name="저장").click()
    expect(row).to_contain_text("0 4 29 2 *")

    row.get_by_role("link", name="야간 배포").click()
    page.get_by_role("button", name="지금 실행").click()
    run = page.get_by_role("list", name="실행 기록").get_by_role("listitem").first
    run.get_by_role("button", name="작업 보기").click()
    work = page.get_by_role("complementary", name="작업")
    work.get_by_role("button", name="작업 취소").click()
    expect(work.get_by_text("취소됨").first).to_be_visible(timeout=WORK_MS)
    work.get_by_role("button", name="닫기").click()
    expect(run).to_contain_text("실패", timeout=WORK_MS)
    expect(run).to_contain_text("→")

    page.get_by_role("button", name="삭제").click()
    page.get_by_role("dialog").get_by_role("button", name="삭제").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("예약")
    expect(row).to_have_count(0)


def test_once_is_of_the_sites_clock_and_the_past_is_refused(signed_in, watch, ground):
    page = signed_in
    ground("two")
    form = open_form(page, "한 번만", "two")
    form.get_by_label("할 일").select_option(label="제거")
    form.get_by_label("패키지", exact=True).select_option(label="two-sleeper")
    form.get_by_role("radio", name="한 번").click()
    watch.refusals.add(422)
    form.get_by_label("실행할 시각").fill("2020-01-01T03:00")
    form.get_by_role("button", name="추가", exact=True).click()
    expect(form.get_by_role("alert")).to_contain_text("schedules.never_due")
    form.get_by_label("실행할 시각").fill("2035-05-05T03:00")
    form.get_by_role("button", name="추가", exact=True).click()
    row = page.get_by_role("row").filter(has_text="한 번만")
    expect(row).to_contain_text("2035. 05. 05. 03:00:00")
    saved = page.request.get("/api/v1/schedules?limit=1000").json()["items"]
    (found,) = [one for one in saved if one["name"] == "한 번만"]
    assert found["at"].startswith("2035-05-04T18:00:00")


def test_a_bad_cron_expression_is_refused_with_a_remedy(signed_in, watch, ground):
    page = signed_in
    ground("three")
    form = open_form(page, "틀린 식", "three")
    form.get_by_label("버전", exact=True).select_option(index=1)
    form.get_by_label("주기").select_option(label="cron 식")
    form.get_by_label("cron 식", exact=True).fill("61 3 * * *")
    watch.refusals.add(422)
    form.get_by_role("button", name="추가", exact=True).click()
    alert = form.get_by_role("alert")
    expect(alert).to_contain_text("schedules.bad_cron")
    expect(alert).to_contain_text("→")


def test_maintenance_hours_are_set_and_taken_back(signed_in):
    page = signed_in
    page.goto(f"/devices/{make(page, 'devices', name='쉬는 장치')}")
    expect(page.get_by_text("언제든지 예약을 실행할 수 있습니다")).to_be_visible()
    edit = page.get_by_role("button", name="시간 정하기")
    edit.click()
    form = page.get_by_role("dialog")
    form.get_by_role("button", name="시간 추가").click()
    form.get_by_label("토", exact=True).uncheck()
    form.get_by_label("일", exact=True).uncheck()
    form.get_by_label("시작").fill("22:00")
    form.get_by_label("끝").fill("04:00")
    form.get_by_role("button", name="저장").click()
    hours = page.get_by_role("list", name="유지보수 시간")
    expect(hours).to_contain_text("월 화 수 목 금 22:00-04:00")
    edit.click()
    form.get_by_role("button", name="빼기").click()
    form.get_by_role("button", name="저장").click()
    expect(page.get_by_text("언제든지 예약을 실행할 수 있습니다")).to_be_visible()


def test_installing_an_agent_without_a_way_to_the_host_says_what_to_do(signed_in, watch):
    page = signed_in
    page.goto(f"/devices/{make(page, 'devices', name='주소 없는 장치')}")
    watch.refusals.update({404, 409, 422, 503})
    page.get_by_role("button", name="에이전트 설치").click()
    page.get_by_role("dialog").get_by_role("button", name="에이전트 설치").click()
    alert = page.get_by_role("alert").first
    expect(alert).to_contain_text("→", timeout=WORK_MS)
