"""What an operator enters about the site beside devices and cameras: groups, neighbours, a file."""

import json

from playwright.sync_api import expect


def make(page, path: str, **fields) -> str:
    made = page.request.post(f"/api/v1/{path}", data=fields)
    assert made.ok, made.text()
    return made.json()["id"]


def test_group_is_made_edited_and_deleted(signed_in):
    page = signed_in
    for name in ("묶음 하나", "묶음 둘"):
        make(page, "devices", name=name)
    page.goto("/devices")
    page.get_by_role("button", name="그룹 추가").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("이름", exact=True).fill("남쪽")
    dialog.get_by_label("묶음 하나").check()
    dialog.get_by_role("button", name="추가").click()
    row = page.get_by_role("table", name="장치 그룹").get_by_role("row").filter(has_text="남쪽")
    expect(row).to_contain_text("묶음 하나")

    row.get_by_role("button", name="편집").click()
    expect(dialog.get_by_label("묶음 하나")).to_be_checked()
    dialog.get_by_label("묶음 둘").check()
    dialog.get_by_role("button", name="저장").click()
    expect(row).to_contain_text("묶음 둘, 묶음 하나")

    row.get_by_role("button", name="삭제").click()
    dialog.get_by_role("button", name="삭제").click()
    expect(row).to_have_count(0)


def test_neighbours_are_entered_by_hand_and_found_by_their_coordinates(signed_in):
    page = signed_in
    url = "rtsp://127.0.0.1:9/media"
    near = {"latitude": 37.5665, "longitude": 126.9780}
    camera_id = make(page, "cameras", name="이웃 동쪽", url=url)
    make(page, "cameras", name="이웃 서쪽", url=url, gps=near)
    make(page, "cameras", name="이웃 남쪽", url=url)
    page.goto(f"/cameras/{camera_id}")
    dialog = page.get_by_role("dialog")
    page.get_by_role("button", name="이웃 추가").click()
    dialog.get_by_label("이웃할 카메라").select_option(label="이웃 남쪽")
    dialog.get_by_role("button", name="추가").click()
    rows = page.get_by_role("table", name="이웃 카메라").get_by_role("row")
    expect(rows.filter(has_text="이웃 남쪽")).to_contain_text("직접 입력")

    page.get_by_role("button", name="GPS로 찾기").click()
    expect(dialog).to_contain_text("이 카메라에 GPS 좌표가 없습니다")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="편집").click()
    dialog.get_by_label("GPS 좌표").fill("37.5666, 126.9780")
    dialog.get_by_role("button", name="저장").click()
    expect(page.get_by_text("37.5666, 126.978", exact=True)).to_be_visible()
    page.get_by_role("button", name="GPS로 찾기").click()
    found = dialog.get_by_role("listitem").filter(has_text="이웃 서쪽")
    expect(found).to_contain_text("11 m")
    found.get_by_role("button", name="추가").click()
    expect(found).to_have_count(0)
    page.keyboard.press("Escape")
    west = rows.filter(has_text="이웃 서쪽")
    expect(west).to_contain_text("GPS로 찾음")
    west.get_by_role("button", name="삭제").click()
    expect(west).to_have_count(0)


def test_ssh_login_of_a_device_never_comes_back(signed_in):
    page = signed_in
    bodies: list[str] = []
    page.on(
        "response",
        lambda answer: bodies.append(answer.text()) if "/api/v1/devices" in answer.url else None,
    )
    device_id = make(page, "devices", name="SSH로 설치")
    page.goto(f"/devices/{device_id}")
    page.get_by_role("button", name="편집").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("SSH 사용자").fill("installer")
    dialog.get_by_label("SSH 비밀번호").fill("s3cret-of-ssh")
    dialog.get_by_label("GPS 좌표").fill("37.5, 127.1")
    dialog.get_by_role("button", name="저장").click()
    expect(page.get_by_text("installer · SSH 비밀번호")).to_be_visible()
    expect(page.get_by_text("37.5, 127.1")).to_be_visible()
    page.get_by_role("button", name="편집").click()
    expect(dialog.get_by_label("SSH 비밀번호")).to_have_value("")
    dialog.get_by_role("button", name="저장").click()
    expect(dialog).to_have_count(0)
    expect(page.get_by_text("installer · SSH 비밀번호")).to_be_visible()
    assert bodies
    assert not [body for body in bodies if "s3cret-of-ssh" in body]


def choose(page, document: object) -> None:
    page.locator("input[type=file]").set_input_files(
        {
            "name": "inventory.json",
            "mimeType": "application/json",
            "buffer": json.dumps(document).encode(),
        }
    )


def test_inventory_is_exported_checked_and_imported(signed_in, watch):
    page = signed_in
    make(page, "devices", name="내보낼 장치")
    page.goto("/settings")
    with page.expect_download() as started:
        page.get_by_role("link", name="내보내기").click()
    exported = json.loads(started.value.path().read_text())
    assert "내보낼 장치" in [device["name"] for device in exported["devices"]]

    page.get_by_role("button", name="가져오기").click()
    dialog = page.get_by_role("dialog")
    take = dialog.get_by_role("button", name="가져오기 실행")
    watch.refusals.add(422)
    bad = {
        **exported,
        "devices": [
            {"name": "나쁜 장치", "host_name": "Not A Label"},
            {"name": "", "role": "kitchen"},
        ],
        "cameras": [{"name": "나쁜 카메라", "url": "http://127.0.0.1/"}],
    }
    choose(page, bad)
    problems = dialog.get_by_role("list", name="발견된 문제").get_by_role("listitem")
    expect(problems.filter(has_text="devices[0]").first).to_be_visible()
    expect(problems.filter(has_text="devices[1]").first).to_be_visible()
    expect(problems.filter(has_text="cameras[0]").first).to_be_visible()
    expect(take).to_be_disabled()

    good = {**exported, "devices": [*exported["devices"], {"name": "들여온 장치"}]}
    choose(page, good)
    expect(dialog).to_contain_text("추가 1개")
    expect(dialog.get_by_role("listitem").filter(has_text="들여온 장치")).to_be_visible()
    take.click()
    expect(dialog).to_have_count(0)
    page.goto("/devices")
    expect(page.get_by_role("link", name="들여온 장치")).to_be_visible()
