"""Run the checks tier by tier and close with one line that counts all tests.

  python tools/test.py                 everything but the lab
  python tools/test.py lint types unit   some tiers

In CI a skipped test counts as a failure: what cannot run there must not pass quietly. Elsewhere
skips are listed with their reasons and counted in the last line.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
BIN = ROOT / ".venv" / "bin"
SOURCES = ["src", "tests", "tools", "demo", "examples", "lab"]
SOFT_LINES, HARD_LINES = 400, 600
TESTS_FAILED = 1  # pytest's exit code
MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of its own is made in it
UNIT_BYTES = 1_000_000_000
"""What the unit tier may fill; it was seen to take 120 MB."""
SECOND_TRIES = 5
"""More than so many failures are no accident of a busy machine."""
FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)
ENVIRONMENT = {
    name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
}
"""The tests start hundreds of Python processes: each would compile a thousand modules anew."""
MORE_OF_LAB = "tests/lab/more"
FOUR_SCENES = ("-n", "4", "--dist", "loadscope", "--no-loadscope-reorder")
UNSTEADY: list[str] = []
"""What passed only at the second try."""


@dataclass
class Count:
    passed: int = 0
    failed: int = 0
    skipped: int = 0


def run(*argv: str | Path) -> tuple[int, str]:
    """Run, show and return (exit code, output)."""
    print(f"\n$ {' '.join(str(part).replace(str(ROOT) + '/', '') for part in argv)}", flush=True)
    process = subprocess.Popen(
        [str(part) for part in argv],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    lines = []
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="", flush=True)
        lines.append(line)
    return process.wait(), "".join(lines)


def check(*argv: str | Path) -> Count:
    """A tool that counts as one test."""
    code, _ = run(*argv)
    return Count(passed=int(code == 0), failed=int(code != 0))


def pytest(*args: str) -> Count:
    code, output = run(BIN / "python", "-m", "pytest", *args, "-rs", "--durations=8")
    return counted(code, output)


def real_parts(*paths: str, beside: tuple[str, ...] = ()) -> Count:
    """Tests on real processes, Docker and browsers, `beside` each other where that says so.

    A few that fail get a second try, their whole files alone (docs/decisions: a second try): tests
    of one file may tell one story. What passes then is counted as passed and named, so that nobody
    overlooks it; what fails twice has failed.
    """
    command = (BIN / "python", "-m", "pytest", "-rsfE", "--durations=8")
    code, output = run(*command, *paths, *beside)
    first = counted(code, output)
    failed = set(FAILED.findall(output))
    if code != TESTS_FAILED or first.failed > SECOND_TRIES or not failed:
        return first
    files = sorted({name.partition("::")[0] for name in failed})
    print(f"\n{first.failed} failed; their files once more, alone", flush=True)
    code, output = run(*command, *files)
    if code not in {0, TESTS_FAILED}:
        return first
    second = counted(code, output)
    UNSTEADY.extend(sorted(failed - set(FAILED.findall(output))))
    return Count(first.passed + first.failed - second.failed, second.failed, first.skipped)


def counted(code: int, output: str) -> Count:
    count = Count()
    closing = output.rstrip().rsplit("\n", 1)[-1]
    for number, word in re.findall(r"(\d+) (passed|failed|skipped|errors?)", closing):
        if word == "passed":
            count.passed += int(number)
        elif word == "skipped":
            count.skipped += int(number)
        else:
            count.failed += int(number)
    if code != 0 and count.failed == 0:
        count.failed = 1
    return count


def total(counts: list[Count]) -> Count:
    return Count(
        sum(count.passed for count in counts),
        sum(count.failed for count in counts),
        sum(count.skipped for count in counts),
    )


def file_sizes() -> Count:
    """No file over the hard limit; those over the soft one are named."""
    bad = 0
    for path in sorted((ROOT / "src").rglob("*.py")):
        if path.parent.name == "versions":
            continue  # migrations are written once and never edited
        lines = len(path.read_text("utf-8").splitlines())
        if lines > HARD_LINES:
            bad += 1
        if lines > SOFT_LINES:
            word = "TOO LONG" if lines > HARD_LINES else "long"
            print(f"{word}: {path.relative_to(ROOT)} has {lines} lines")
    return Count(passed=int(bad == 0), failed=int(bad > 0))


def lint() -> Count:
    sources = [source for source in SOURCES if (ROOT / source).exists()]
    return total(
        [
            check(BIN / "ruff", "format", "--check", "-q", *sources),
            check(BIN / "ruff", "check", "-q", *sources),
            check(BIN / "lint-imports", "--no-cache"),
            file_sizes(),
        ]
    )


def types() -> Count:
    return check(BIN / "mypy", "src/haechi")


def unit() -> Count:
    """Half of the files in one process, the rest in another, beside each other: tests are so small
    that handing each of them to a worker would cost as much as running it, and what a process does
    not run it need not import. Without the plugin that only the contract tests need. Their
    databases are flushed thousands of times, which in memory costs nothing.
    """
    memory = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > UNIT_BYTES
    with tempfile.TemporaryDirectory(prefix="haechi-unit-", dir=MEMORY if memory else None) as base:

        def part(number: int) -> Count:
            which = (f"--part={number}/2", f"--basetemp={base}/{number}")
            return pytest("tests/unit", "tests/golden", *which, "-p", "no:schemathesis")

        with ThreadPoolExecutor() as both:
            return total(list(both.map(part, (1, 2))))


def integration() -> Count:
    """Two at a time, a file to a worker: most of them wait for Docker or processes."""
    two = ("-n", "2", "--dist", "loadfile")
    return real_parts("tests/contract", "tests/integration", beside=two)


def dashboard() -> Count:
    """Its types, lint and unit tests."""
    return check(BIN / "python", "tools/dashboard.py", "--check")


def e2e() -> Count:
    return real_parts("tests/e2e")


def lab() -> Count:
    """Clusters on real hosts (`make test-lab`). Not in the default list: it has its own.

    Its conftest says who gets what. Four at a time fill two cores: most of them wait for outages to
    be over and for nodes to be found dead. With more, all take longer, and clusters cost by the
    second.
    """
    return real_parts("tests/lab", f"--ignore={MORE_OF_LAB}", beside=FOUR_SCENES)


def lab_more() -> Count:
    """Whole sites on real hosts, what has been off for long, and the lab itself
    (`make test-lab-more`).
    """
    return real_parts(MORE_OF_LAB, beside=FOUR_SCENES)


def docs() -> Count:
    return total(
        [
            check(BIN / "python", "tools/docs.py", "--check"),
            check(BIN / "python", "tools/interop_docs.py", "--check"),
            pytest("tests/docs"),
        ]
    )


TIERS: dict[str, Callable[[], Count]] = {
    "lint": lint,
    "types": types,
    "unit": unit,
    "docs": docs,
    "dashboard": dashboard,
    "integration": integration,
    "e2e": e2e,
    "lab": lab,
    "lab-more": lab_more,
}
BY_NAME_ONLY = {"lab", "lab-more"}


def main() -> int:
    names = sys.argv[1:] or [name for name in TIERS if name not in BY_NAME_ONLY]
    unknown = [name for name in names if name not in TIERS]
    if unknown:
        print(f"no such tier: {', '.join(unknown)}; there are {', '.join(TIERS)}")
        return 2
    rows = []
    for name in names:
        started = time.monotonic()
        count = TIERS[name]()
        rows.append((name, count, time.monotonic() - started))
    print("\ntier          passed  failed  skipped   time")
    for name, count, seconds in rows:
        print(f"{name:12} {count.passed:7} {count.failed:7} {count.skipped:8} {seconds:5.0f} s")
    for test in UNSTEADY:
        print(f"passed only at the second try, alone: {test}")
    all_tiers = total([count for _, count, _ in rows])
    unseen = all_tiers.skipped > 0 and bool(os.environ.get("CI"))
    if unseen:
        print("skipped tests count as failures in CI")
    line = f"{all_tiers.passed} passed, {all_tiers.failed} failed"
    print(line + (f", {all_tiers.skipped} skipped" if all_tiers.skipped else ""))
    return int(all_tiers.failed > 0 or unseen)


if __name__ == "__main__":
    sys.exit(main())
