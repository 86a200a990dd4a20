"""From a zip to an image in the site registry, watched in the browser. Needs a Docker daemon."""

import re

import pytest
from playwright.sync_api import expect

from haechi.testing import packages

pytestmark = pytest.mark.docker

BUILD_MS = 240_000


@pytest.fixture(autouse=True)
def _base_image(signed_in):
    """The packages' base image is the one that the setup made: nothing is pulled."""
    entry = {"source": "python:3.11-slim", "target": "haechi/python:3.11-slim"}
    assert signed_in.request.put("/api/v1/base-images", data=entry).ok


def upload_and_build(page, name: str, content: bytes) -> None:
    page.goto("/packages")
    page.get_by_role("button", name="패키지 올리기").first.click()
    page.locator("input[type=file]").set_input_files(
        {"name": f"{name}.zip", "mimeType": "application/zip", "buffer": content}
    )
    page.get_by_label("버전", exact=True).fill("1")
    page.get_by_role("button", name="올리기", exact=True).click()
    expect(page).to_have_url(re.compile(r"/packages/pkg-"))


def test_build_is_followed_live_and_ends_with_an_image(signed_in):
    page = signed_in
    upload_and_build(page, "e2e-built", packages.posting("e2e-built"))
    drawer = page.get_by_role("complementary", name="작업")
    expect(drawer.get_by_role("log")).to_contain_text("FROM", timeout=BUILD_MS)
    expect(drawer.get_by_text("완료", exact=True)).to_be_visible(timeout=BUILD_MS)
    drawer.get_by_role("button", name="닫기").click()
    row = page.get_by_role("table", name="버전").get_by_role("row").nth(1)
    expect(row).to_contain_text("완료")
    expect(row).to_contain_text("linux/")
    expect(row.get_by_role("button", name="배포")).to_be_visible()
    builds = page.get_by_role("table", name="빌드 이력").get_by_role("row")
    builds.nth(1).get_by_role("button", name="로그").click()
    expect(page.get_by_role("log")).to_contain_text("FROM")


def test_failed_build_says_why(signed_in):
    page = signed_in
    upload_and_build(page, "e2e-fails", packages.failing_build())
    drawer = page.get_by_role("complementary", name="작업")
    alert = drawer.get_by_role("alert")
    expect(alert).to_be_visible(timeout=BUILD_MS)
    expect(alert).to_contain_text("builds.")
    expect(alert).to_contain_text("→")


def test_missing_base_image_says_which_and_how_to_map_it(signed_in):
    page = signed_in
    upload_and_build(page, "e2e-baseless", packages.missing_base("nothing.example/base:1"))
    alert = page.get_by_role("complementary", name="작업").get_by_role("alert")
    expect(alert).to_be_visible(timeout=BUILD_MS)
    expect(alert).to_contain_text("nothing.example/base:1")


def test_base_image_is_mapped_and_unmapped(signed_in):
    page = signed_in
    page.goto("/settings")
    page.get_by_role("button", name="대응 추가").click()
    page.get_by_label("Dockerfile의 이미지").fill("e2e/base:1")
    page.get_by_label("대신 쓸 이미지").fill("haechi/python:3.11-slim")
    page.get_by_role("button", name="추가", exact=True).click()
    row = page.get_by_role("table", name="기반 이미지 대응").get_by_role("row")
    row = row.filter(has_text="e2e/base:1")
    expect(row).to_contain_text("haechi/python:3.11-slim")
    row.get_by_role("button", name="삭제").click()
    expect(row).to_have_count(0)
