"""Devices and cameras as an operator registers them."""

import re

from playwright.sync_api import expect


def fill_in(page, name: str) -> None:
    page.goto("/devices")
    page.get_by_role("button", name="장치 추가").first.click()
    page.get_by_label("이름", exact=True).fill(name)
    page.get_by_role("button", name="추가", exact=True).click()


def add_device(page, name: str) -> None:
    """Add one; the command that enrols it is offered at once."""
    fill_in(page, name)
    expect(page.get_by_role("textbox", name="등록 명령")).to_have_value(re.compile("haechi "))
    page.keyboard.press("Escape")


def test_device_is_added_enrolled_edited_and_deleted(signed_in, watch):
    page = signed_in
    add_device(page, "정문 엣지")
    row = page.get_by_role("row").filter(has_text="정문 엣지")
    expect(row).to_contain_text("미등록")

    row.get_by_role("link", name="정문 엣지").click()
    page.get_by_role("button", name="편집").click()
    page.get_by_label("설명").fill("정문 경비실 옆")
    page.get_by_role("button", name="저장").click()
    expect(page.get_by_text("정문 경비실 옆")).to_be_visible()

    page.get_by_role("button", name="삭제").click()
    page.get_by_role("dialog").get_by_role("button", name="삭제").click()
    expect(page.get_by_role("heading", name="장치")).to_be_visible()
    expect(page.get_by_role("row").filter(has_text="정문 엣지")).to_have_count(0)


def test_same_name_again_is_refused_with_a_remedy(signed_in, watch):
    page = signed_in
    add_device(page, "겹치는 이름")
    watch.refusals.add(409)
    fill_in(page, "겹치는 이름")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("inventory.duplicate_name")
    expect(alert).to_contain_text("다른 이름을 입력하세요")


def test_stale_edit_is_refused_not_overwritten(signed_in, watch):
    page = signed_in
    add_device(page, "두 사람")
    page.get_by_role("link", name="두 사람").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("두 사람")
    device_id = page.url.rsplit("/", 1)[1]
    page.get_by_role("button", name="편집").click()
    page.get_by_label("설명").fill("나중에 쓴 사람")
    address = f"/api/v1/devices/{device_id}"
    etag = page.request.get(address).headers["etag"]
    changed = page.request.patch(
        address, data={"description": "먼저 쓴 사람"}, headers={"If-Match": etag}
    )
    assert changed.ok
    watch.refusals.add(412)
    page.get_by_role("button", name="저장").click()
    expect(page.get_by_role("alert")).to_contain_text("core.stale_edit")


def test_camera_login_is_split_off_and_its_password_never_comes_back(signed_in):
    page = signed_in
    bodies: list[str] = []
    page.on(
        "response",
        lambda answer: bodies.append(answer.text()) if "/api/v1/cameras" in answer.url else None,
    )
    page.goto("/cameras")
    page.get_by_role("button", name="카메라 추가").first.click()
    page.get_by_label("이름", exact=True).fill("정문 카메라")
    page.get_by_label("RTSP 주소").fill("rtsp://root:se%40cret9@127.0.0.1:9/axis-media/media.amp")
    page.get_by_label("설명").fill("x")  # leaving the address splits it
    expect(page.get_by_label("RTSP 주소")).to_have_value("rtsp://127.0.0.1:9/axis-media/media.amp")
    expect(page.get_by_label("카메라 사용자")).to_have_value("root")
    expect(page.get_by_label("카메라 비밀번호")).to_have_value("se@cret9")
    page.get_by_role("button", name="추가", exact=True).click()
    page.get_by_role("link", name="정문 카메라").click()
    expect(page.get_by_text("저장됨")).to_be_visible()
    page.get_by_role("button", name="편집").click()
    expect(page.get_by_label("카메라 비밀번호")).to_have_value("")
    assert bodies
    assert not [body for body in bodies if "se@cret9" in body or "se%40cret9" in body]
