"""The documents speak of what is there: links, commands, targets, both languages."""

import re
from pathlib import Path

import pytest

from haechi.cli.main import COMMANDS

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = page.read_text("utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if "://" not in target and not target.startswith("mailto:"):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_make_targets_and_commands_named_in_pages_exist(page):
    text = page.read_text("utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for target in re.findall(r"`make ([a-z-]+)", text):
        assert target in targets, f"{page.name}: make {target}"
    for noun in re.findall(r"`(?:\$ )?haechi ([a-z]+)", text):
        assert noun in COMMANDS, f"{page.name}: haechi {noun}"


def test_decisions_are_numbered_without_gaps():
    numbers = sorted(int(path.name[:4]) for path in (ROOT / "docs" / "decisions").glob("0*.md"))
    assert numbers == list(range(1, len(numbers) + 1))


def test_the_guide_has_the_same_chapters_in_both_languages():
    def shape(page):
        return [
            line.split(" ", 1)[0]
            for line in page.read_text("utf-8").splitlines()
            if line.startswith("#")
        ]

    guides = ROOT / "docs" / "guide"
    assert shape(guides / "guide.ko.md") == shape(guides / "guide.en.md")


def test_pages_keep_to_loopback_and_example_addresses():
    """Documentation ranges of RFC 5737, loopback, and the addresses of typical sites only."""
    allowed = re.compile(r"^(127\.|0\.0\.0\.0|192\.0\.2\.|192\.168\.|10\.|172\.)")
    for page in PAGES:
        for address in re.findall(r"\b\d{1,3}(?:\.\d{1,3}){3}\b", page.read_text("utf-8")):
            assert allowed.match(address), f"{page.name}: {address}"
