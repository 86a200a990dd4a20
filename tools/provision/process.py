"""Running outside programs with a time limit, and saying plainly what went wrong."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


class StepFailed(Exception):
    """A step could not be done: what happened, and what the person can do about it."""

    def __init__(self, what: str, remedy: str, output: str = "") -> None:
        super().__init__(what)
        self.remedy = remedy
        self.output = output


def run(
    argv: Sequence[str | Path],
    *,
    limit_s: float,
    remedy: str,
    cwd: Path | None = None,
    extra_env: Mapping[str, str] | None = None,
) -> str:
    """Run to the end and return what it printed; `StepFailed` otherwise."""
    words = [str(word) for word in argv]
    shown = " ".join(words[:4]) + (" …" if len(words) > 4 else "")
    try:
        done = subprocess.run(
            words,
            cwd=cwd,
            env={**os.environ, **(extra_env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=limit_s,
            check=False,
        )
    except FileNotFoundError as e:
        raise StepFailed(f"the program {words[0]} is not installed", remedy) from e
    except subprocess.TimeoutExpired as e:
        raw = e.stdout or b""
        text = raw if isinstance(raw, str) else raw.decode(errors="replace")
        raise StepFailed(f"`{shown}` took longer than {limit_s:.0f} s", remedy, text) from e
    if done.returncode:
        raise StepFailed(f"`{shown}` ended with code {done.returncode}", remedy, done.stdout)
    return done.stdout


def succeeds(argv: Sequence[str | Path], *, limit_s: float = 30) -> bool:
    """Does this command work? Its output does not matter."""
    try:
        run(argv, limit_s=limit_s, remedy="")
    except StepFailed:
        return False
    return True


def as_root(argv: Sequence[str | Path]) -> list[str | Path]:
    """The command with `sudo` in front where that is needed."""
    if os.geteuid() == 0:
        return list(argv)
    if shutil.which("sudo") is None:
        raise StepFailed(
            f"{argv[0]} has to run as root, and there is no sudo",
            "Run this as root, or install sudo and allow it for your user.",
        )
    return ["sudo", *argv]
