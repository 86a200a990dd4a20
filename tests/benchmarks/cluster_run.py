"""`make bench-lab`: clusters of real hosts, measured; a table, and build/bench-lab.json.

    python -m tests.benchmarks.cluster_run [FIGURE…] [--rounds N]

FIGURE: all, or some by name, with or without its unit (`form_1_1`). What was measured earlier and
is not asked for now stays in the file. Everything runs alone, each scene bounded in time.
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.benchmarks import cluster_forming as forming
from tests.benchmarks import cluster_running
from tests.benchmarks.figures import Row
from tests.benchmarks.run import show

from haechi.domains.clusters.bundle.model import Bundle
from lab import LabError, engine, ready
from lab.stand import Refused

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "build" / "bench-lab.json"
Measure = Callable[[Bundle, Collection[str], int], Awaitable[list[Row]]]


@dataclass(frozen=True)
class Scene:
    """Figures that are had of the same hosts; `limit_s` is for one round."""

    figures: tuple[str, ...]
    measure: Measure
    limit_s: float


def formed(name: str, clusters: int, workers: int) -> Measure:
    return partial(forming.prepared, name=name, clusters=clusters, workers=workers)


SCENES = (
    Scene(("form_1_1_s",), formed("form_1_1_s", 1, 1), 900),
    Scene(("form_1_3_s",), formed("form_1_3_s", 1, 3), 1200),
    Scene(("form_3x_1_3_s", "server_rss_mb"), formed("form_3x_1_3_s", 3, 3), 1800),
    Scene(("form_bare_hosts_s", "delete_with_proof_s"), forming.from_sshd, 900),
    Scene(("add_worker_s",), forming.add_worker, 900),
    Scene(
        (
            "image_to_running_k8s_s",
            "switch_gap_k8s_s",
            "rollback_k8s_s",
            "node_silent_shown_s",
        ),
        cluster_running.running,
        1500,
    ),
)
FIGURES = tuple(figure for scene in SCENES for figure in scene.figures)


def full_name(word: str) -> str:
    """Raises ArgumentTypeError for what is no figure."""
    for figure in FIGURES:
        if word in {figure, figure.rpartition("_")[0]}:
            return figure
    raise argparse.ArgumentTypeError(f"{word} is none of {', '.join(FIGURES)}")


async def measured(wanted: Collection[str], rounds: int) -> list[Row]:
    """A scene that fails is said and does not keep the others from being measured."""
    bundle = ready.bundle()
    rows: list[Row] = []
    for scene in SCENES:
        mine = [figure for figure in scene.figures if figure in wanted]
        if not mine:
            continue
        print(f"… {', '.join(mine)}", flush=True)
        try:
            async with asyncio.timeout(scene.limit_s * rounds):
                rows += await scene.measure(bundle, mine, rounds)
        except (LabError, Refused, TimeoutError, SystemExit) as error:
            why = "over its time" if isinstance(error, TimeoutError) else str(error)
            print(f"  not measured: {why}", file=sys.stderr, flush=True)
    return rows


def keep(rows: list[Row]) -> list[Row]:
    """Written beside what earlier runs measured; all of it, in the figures' order."""
    known = json.loads(TARGET.read_text()) if TARGET.exists() else []
    by_name = {one["name"]: one for one in [*known, *rows]}
    TARGET.parent.mkdir(exist_ok=True)
    kept = [by_name[figure] for figure in FIGURES if figure in by_name]
    TARGET.write_text(json.dumps(kept, indent=1) + "\n")
    return kept


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure clusters in the host lab.")
    parser.add_argument("figures", nargs="*", type=full_name, metavar="FIGURE")
    parser.add_argument("--rounds", type=int, default=1, help="of each; medians count")
    asked = parser.parse_args()
    if reason := engine.missing():
        print(reason, file=sys.stderr)
        return 3
    wanted = tuple(asked.figures) or FIGURES
    rows = asyncio.run(measured(wanted, max(1, asked.rounds)))
    keep(rows)
    show(rows)
    load = os.getloadavg()[0]
    print(f"\n{os.cpu_count()} cores, load {load:.1f} at the end → {TARGET.relative_to(ROOT)}")
    return int({one["name"] for one in rows} != set(wanted))


if __name__ == "__main__":
    sys.exit(main())
