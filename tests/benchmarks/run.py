"""`make bench`: every benchmark, one after the other; a table, and build/bench.json."""

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SCRIPTS = ("ingest.py", "metrics.py", "main_job.py")
TIMEOUT_S = 900


def rows_of(script: str) -> list[dict[str, Any]]:
    print(f"… {script}", file=sys.stderr, flush=True)
    done = subprocess.run(
        [sys.executable, str(HERE / script)],
        stdout=subprocess.PIPE,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def show(rows: list[dict[str, Any]]) -> None:
    print(f"\n{'figure':36}{'value':>12}  {'unit':24}{'reference':>10}{'ratio':>8}  against")
    for row in rows:
        reference = row["reference_value"]
        print(
            f"{row['name']:36}{row['value']:>12,}  {row['unit']:24}"
            f"{'' if reference is None else f'{reference:,}':>10}"
            f"{'' if row['ratio'] is None else row['ratio']:>8}  {row['reference'] or ''}"
        )


def main() -> None:
    rows = [row for script in SCRIPTS for row in rows_of(script)]
    show(rows)
    target = ROOT / "build" / "bench.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(rows, indent=1) + "\n")
    when = datetime.now(UTC).date()
    print(f"\n{when}, {os.cpu_count()} cores, {platform.platform()} → {target.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
