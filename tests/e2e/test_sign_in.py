"""Signing in and out, the first password, languages, and what a page may ask for."""

import pytest
from playwright.sync_api import expect


def test_wrong_password_is_refused_with_what_to_do(page, sign_in):
    sign_in("not the password")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("auth.")
    expect(alert).to_contain_text("→")
    expect(page.get_by_role("navigation")).to_have_count(0)


def test_sign_in_shows_the_live_site_and_sign_out_leaves_nothing(page, sign_in):
    sign_in()
    expect(page.get_by_role("heading", name="현장 현황")).to_be_visible()
    expect(page.get_by_role("status").filter(has_text="실시간")).to_be_visible()
    page.get_by_role("button", name="로그아웃").click()
    expect(page.get_by_label("비밀번호")).to_be_visible()
    page.goto("/devices")
    expect(page.get_by_label("비밀번호")).to_be_visible()


def test_session_survives_a_reload_and_a_deep_link(signed_in):
    signed_in.goto("/settings")
    signed_in.reload()
    expect(signed_in.get_by_role("heading", level=1, name="설정")).to_be_visible()


def test_language_switch_is_kept_and_reaches_the_servers_texts(signed_in, watch):
    page = signed_in
    page.get_by_role("button", name="Switch to English").click()
    expect(page.get_by_role("link", name="Devices")).to_be_visible()
    expect(page.locator("html")).to_have_attribute("lang", "en")
    page.reload()
    expect(page.get_by_role("heading", name="Site overview")).to_be_visible()

    watch.refusals.add(422)
    page.goto("/cameras")
    page.get_by_role("button", name="Add camera").first.click()
    page.get_by_label("Name").fill("No such scheme")
    page.get_by_label("RTSP address").fill("http://127.0.0.1/x")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("cannot be used")
    page.keyboard.press("Escape")

    page.get_by_role("button", name="한국어").click()
    expect(page.get_by_role("link", name="장치")).to_be_visible()


PAGES = "/ /cameras /devices /clusters /schedules /packages /deployments /results /users /tokens /audit /settings"


@pytest.mark.parametrize("path", PAGES.split())
def test_every_page_opens_without_a_complaint(signed_in, path):
    """`watch` fails the test on a foreign host, a console error or an unexpected answer."""
    signed_in.goto(path)
    expect(signed_in.get_by_role("heading", level=1)).to_be_visible()
    expect(signed_in.get_by_label("불러오는 중")).to_have_count(0)
    expect(signed_in.get_by_role("alert")).to_have_count(0)


def test_unknown_page_leads_back(signed_in):
    signed_in.goto("/no/such/page")
    expect(signed_in.get_by_text("없는 페이지입니다")).to_be_visible()


def test_keyboard_reaches_the_content(signed_in):
    signed_in.goto("/devices")
    expect(signed_in.get_by_role("heading", level=1)).to_be_visible()
    signed_in.keyboard.press("Tab")
    expect(signed_in.get_by_role("link", name="본문으로 건너뛰기")).to_be_focused()
    signed_in.keyboard.press("Enter")
    expect(signed_in.locator("#content")).to_be_focused()


def test_generated_first_password_must_be_changed(new_site, browser):
    own = new_site()
    first = (own.folder / "initial-admin-password").read_text().strip()
    context = browser.new_context(base_url=own.url, locale="ko-KR")
    context.set_default_timeout(60_000)
    page = context.new_page()
    page.goto("/")
    page.get_by_label("이름").fill("admin")
    page.get_by_label("비밀번호").fill(first)
    page.get_by_role("button", name="로그인").click()
    expect(page.get_by_role("heading", name="새 비밀번호를 정하세요")).to_be_visible()
    page.get_by_label("현재 비밀번호").fill(first)
    page.get_by_label("새 비밀번호", exact=True).fill("a-new-password-of-mine")
    page.get_by_label("새 비밀번호 확인").fill("a-new-password-of-mine")
    page.get_by_role("button", name="비밀번호 변경").click()
    expect(page.get_by_role("heading", name="현장 현황")).to_be_visible()
    context.close()
