"""Dockerfile in → Dockerfile out, and the images it needs. `HAECHI_GOLDEN=write` renews them."""

import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest

from haechi.domains.builds.dockerfile import rewrite
from haechi.domains.builds.site_files import site_files, with_site_files

FOLDER = Path(__file__).parent / "dockerfile"
CASES = sorted(path.stem for path in FOLDER.glob("*.in"))


def compare(path: Path, made: str) -> None:
    if os.environ.get("HAECHI_GOLDEN") == "write":
        path.write_bytes(made.encode())
    assert made == path.read_bytes().decode()


@pytest.mark.parametrize("case", CASES)
def test_base_map(case):
    about = json.loads((FOLDER / f"{case}.json").read_text())
    found = rewrite(
        (FOLDER / f"{case}.in").read_bytes().decode(),
        base_map=about["map"],
        build_platform="linux/amd64",
        target_platform=about["platform"],
    )
    compare(FOLDER / f"{case}.out", found.text)
    facts = {
        "bases": [
            {key: value for key, value in asdict(use).items() if key != "image_id"}
            for use in found.bases
        ],
        "heredocs": found.heredocs,
        "syntax": found.syntax,
    }
    compare(FOLDER / f"{case}.facts.json", json.dumps(facts, indent=1, ensure_ascii=False) + "\n")


@pytest.mark.parametrize("case", ["multi-stage", "heredoc", "mounts", "continued-from"])
def test_site_files(case):
    files = site_files(pip_index_url="https://index.test/simple", ca_pem=b"CA")
    text = (FOLDER / f"{case}.in").read_bytes().decode()
    compare(FOLDER / f"{case}.site.out", with_site_files(text, files))
