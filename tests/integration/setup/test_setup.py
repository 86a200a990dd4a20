"""The preparation script as a user runs it: standard library only, nothing twice, plain words."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.integration


def setup(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        # -S -E: no site-packages, so nothing but the standard library can have been used
        [sys.executable, "-S", "-E", str(CHECKOUT / "tools" / "setup.py"), *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_paths_lie_in_the_chosen_cache_and_carry_versions(tmp_path):
    answer = setup("--path", HAECHI_CACHE=str(tmp_path))

    paths = json.loads(answer.stdout)
    inside = {name for name, path in paths.items() if Path(path).is_relative_to(tmp_path)}
    assert inside == set(paths) - {"python"}
    assert "1.9.14-cui.48" in paths["go2rtc"]
    assert list(tmp_path.iterdir()) == []


def test_one_path_is_printed_alone_for_shell_scripts(tmp_path):
    answer = setup("--path", "node", HAECHI_CACHE=str(tmp_path))
    assert answer.stdout == f"{tmp_path}/node/24.19.0/bin/node\n"


def test_a_prepared_machine_is_left_as_it_is():
    before = setup("--list")
    if "missing" in before.stdout:
        pytest.skip("run tools/setup.py first")

    answer = setup()

    assert answer.returncode == 0, answer.stderr
    lines = answer.stdout.splitlines()
    assert [line.rpartition(": ")[2] for line in lines] == ["there"] * 9


def test_a_failing_step_says_what_to_do_and_leaves_nothing_half_done(tmp_path):
    answer = setup(
        "--only", "node", HAECHI_CACHE=str(tmp_path), PIP_NO_INDEX="1", PIP_FIND_LINKS=str(tmp_path)
    )

    assert answer.returncode == 1
    assert "FAILED" in answer.stderr
    assert "pip download uv" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert list((tmp_path / "uv").iterdir()) == []


def test_footage_and_detector_are_real():
    paths = json.loads(setup("--path").stdout)
    if not Path(paths["detector"]).exists():
        pytest.skip("run tools/setup.py first")

    answer = subprocess.run(
        [
            paths["python"],
            str(CHECKOUT / "tools" / "check_detector.py"),
            paths["detector"],
            paths["footage"],
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith("people found in 8 frames")


@pytest.mark.parametrize("target", ["test", "test-lab", "test-lab-more", "bench-lab", "soak"])
def test_a_suite_alone_sets_up_all_that_a_new_machine_lacks(target):
    """Tests on hosts use Docker, the registry and the base image as the others do."""
    answer = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", target],
        cwd=CHECKOUT,
        env={key: value for key, value in os.environ.items() if not key.startswith("MAKE")},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    (first, *_) = answer.stdout.splitlines()
    assert "tools/setup.py" in first
    assert "--only" not in first
