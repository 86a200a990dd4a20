"""Prepare this machine for haechi: packages, environment, Docker, footage, relay, detector.

Run it as often as you like; it skips what is there. Needs Python 3.11 and nothing else.

  python3 tools/setup.py                       everything for `make demo`
  python3 tools/setup.py --with browser        and what the browser tests need
  python3 tools/setup.py --with lab            and the host lab (podman, host images, bundle)
  python3 tools/setup.py --only docker node    some steps only
  python3 tools/setup.py --list                what there is, and what is ready
  python3 tools/setup.py --path go2rtc         where a prepared thing lies (`--path` alone: all)
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

if sys.version_info < (3, 11):  # noqa: UP036 - said plainly instead of a syntax error
    sys.exit("haechi needs Python 3.11 or newer.")

from provision import base_image, bundle, cache, debian, docker, files, lab, python_env
from provision.process import StepFailed

Options = frozenset[str]


@dataclass(frozen=True)
class Step:
    """One thing that has to be there: how to see that it is, and how to bring it."""

    name: str
    title: str
    ready: Callable[[Options], bool]
    prepare: Callable[[Options], str]
    needs: tuple[str, ...] = ()
    only_with: str = ""  # the option that asks for it; without one it belongs to everything


STEPS = (
    Step("packages", "packages of the distribution", debian.ready, debian.prepare),
    Step("docker", "Docker daemon", docker.ready, docker.prepare, ("packages",)),
    Step("uv", "uv, the Python installer", python_env.uv_ready, python_env.prepare_uv),
    Step(
        "environment",
        "Python environment .venv",
        python_env.environment_ready,
        python_env.prepare_environment,
        ("uv",),
    ),
    Step("node", "Node.js for the dashboard", files.node_ready, files.prepare_node, ("uv",)),
    Step("footage", "CCTV footage", files.footage_ready, files.prepare_footage),
    Step("go2rtc", "video relay", files.go2rtc_ready, files.prepare_go2rtc, ("node",)),
    Step(
        "detector",
        "weights of the detector",
        files.detector_ready,
        files.prepare_detector,
        ("environment", "node", "footage"),
    ),
    Step(
        "base-image",
        "base image for builds",
        base_image.ready,
        base_image.prepare,
        ("packages", "docker"),
    ),
    Step("lab", "host lab", lab.ready, lab.prepare, only_with="lab"),
    Step(
        "bundle",
        "offline bundle",
        bundle.ready,
        bundle.prepare,
        ("environment",),
        only_with="lab",
    ),
)


def asked(options: Options) -> list[Step]:
    """Everything, and the extras that were asked for."""
    return [step for step in STEPS if step.only_with in {"", *options}]


def with_needs(names: list[str], options: Options) -> list[Step]:
    """The named steps and what they rest on, in order; no name: all that were asked for."""
    wanted = set(names) or {step.name for step in asked(options)}
    for step in reversed(STEPS):
        if step.name in wanted:
            wanted.update(step.needs)
    return [step for step in STEPS if step.name in wanted]


def prepare(names: list[str], options: Options) -> int:
    """Do the named steps and what they need; stop at the first that fails."""
    chosen = with_needs(names, options)
    for number, step in enumerate(chosen, start=1):
        label = f"[{number}/{len(chosen)}] {step.title}"
        try:
            if step.ready(options):
                print(f"{label}: there", flush=True)
                continue
            print(f"{label}: preparing …", flush=True)
            started = time.monotonic()
            outcome = step.prepare(options)
        except StepFailed as e:
            if e.output:
                print("\n".join(f"      {line}" for line in e.output.splitlines()[-20:]))
            print(f"{label}: FAILED, {e}\n      {e.remedy}", file=sys.stderr, flush=True)
            return 1
        print(f"      {outcome} ({time.monotonic() - started:.1f} s)", flush=True)
    return 0


def show(options: Options) -> int:
    for step in asked(options):
        try:
            state = "ready" if step.ready(options) else "missing"
        except StepFailed as e:
            state = f"missing: {e}"
        print(f"{step.name:12} {step.title:32} {state}")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=[s.name for s in STEPS], default=[])
    parser.add_argument("--with", dest="extras", nargs="+", choices=["browser", "lab"], default=[])
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--path", nargs="?", const="", choices=["", *cache.paths()])
    arguments = parser.parse_args()
    options = frozenset(arguments.extras)
    if arguments.path is not None:
        known = {name: str(path) for name, path in cache.paths().items()}
        print(known[arguments.path] if arguments.path else json.dumps(known, indent=2))
        return 0
    if arguments.list:
        return show(options)
    with cache.exclusive():
        return prepare(arguments.only, options)


if __name__ == "__main__":
    sys.exit(main())
