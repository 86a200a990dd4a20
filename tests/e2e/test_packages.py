"""Packages through the browser: refused with every reason, taken with progress, and deleted."""

import re

from playwright.sync_api import expect

from haechi.testing import packages


def choose(page, name: str, content: bytes, version: str) -> None:
    page.goto("/packages")
    page.get_by_role("button", name="패키지 올리기").first.click()
    page.locator("input[type=file]").set_input_files(
        {"name": name, "mimeType": "application/zip", "buffer": content}
    )
    page.get_by_label("버전", exact=True).fill(version)
    page.get_by_label("올린 뒤 바로 빌드").uncheck()


def send(page) -> None:
    page.get_by_role("button", name="올리기", exact=True).click()


def test_refused_upload_lists_every_problem_with_its_remedy(signed_in, watch):
    page = signed_in
    watch.refusals.update({400, 415, 422})
    choose(page, "broken.zip", packages.with_everything_wrong(), "1.0")
    send(page)
    findings = page.get_by_role("list", name="발견된 문제").get_by_role("listitem")
    expect(findings.nth(1)).to_be_visible()
    for finding in findings.all():
        expect(finding).to_contain_text("→")
    expect(page.get_by_role("dialog")).to_be_visible()


def test_not_a_zip_is_refused(signed_in, watch):
    page = signed_in
    watch.refusals.update({400, 415, 422})
    choose(page, "notes.zip", packages.not_a_zip(), "1.0")
    send(page)
    expect(page.get_by_role("alert")).to_contain_text("packages.")


def test_upload_is_taken_and_the_version_is_shown(signed_in):
    page = signed_in
    choose(page, "e2e-poster.zip", packages.posting("e2e-poster"), "1.0")
    send(page)
    expect(page).to_have_url(re.compile(r"/packages/pkg-"))
    expect(page.get_by_role("heading", level=1)).to_contain_text("e2e-poster")
    row = page.get_by_role("table", name="버전").get_by_role("row").nth(1)
    expect(row).to_contain_text("1.0")
    expect(row).to_contain_text("빌드 전")
    expect(row.get_by_role("button", name="빌드하기")).to_be_visible()


def test_zip_can_be_dropped(signed_in):
    page = signed_in
    page.goto("/packages")
    page.get_by_role("button", name="패키지 올리기").first.click()
    transfer = page.evaluate_handle(
        """() => {
            const transfer = new DataTransfer();
            transfer.items.add(new File(["PK"], "dropped.zip", {type: "application/zip"}));
            return transfer;
        }"""
    )
    page.get_by_text("zip 파일을 여기에 끌어다 놓으세요").dispatch_event(
        "drop", {"dataTransfer": transfer}
    )
    expect(page.get_by_text("dropped.zip")).to_be_visible()


def test_package_is_deleted(signed_in):
    page = signed_in
    choose(page, "e2e-gone.zip", packages.sleeping("e2e-gone"), "1")
    send(page)
    expect(page).to_have_url(re.compile(r"/packages/pkg-"))
    page.get_by_role("button", name="삭제", exact=True).first.click()
    page.get_by_role("dialog").get_by_role("button", name="삭제").click()
    expect(page).to_have_url(re.compile(r"/packages$"))
    expect(page.get_by_role("row").filter(has_text="e2e-gone")).to_have_count(0)
