"""Posts the machine's CPU and memory percent once a second, as packages without an SDK do.

Ends when its receiver is away: the platform is expected to start it again.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import urllib.request
from pathlib import Path

_TIMEOUT_S = 5.0


def cpu_times() -> tuple[int, int]:
    """(busy, all) in ticks since the machine started."""
    ticks = [int(v) for v in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    idle = ticks[3] + ticks[4]
    return sum(ticks) - idle, sum(ticks)


def memory_percent() -> float:
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    kilobytes = {line[0].rstrip(":"): int(line[1]) for line in lines if len(line) > 1}
    return 100.0 * (1 - kilobytes["MemAvailable"] / kilobytes["MemTotal"])


def post(url: str, usage: dict[str, object]) -> None:
    headers = {"Content-Type": "application/json"}
    if os.environ.get("HAECHI_TOKEN"):
        headers["Authorization"] = f"Bearer {os.environ['HAECHI_TOKEN']}"
    request = urllib.request.Request(url, json.dumps(usage).encode(), headers)  # noqa: S310
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
        answer.read()


def main() -> int:
    url = os.environ.get("HAECHI_USAGE_URL")
    if not url:
        print("HAECHI_USAGE_URL is not set: nowhere to report to", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    every_s = float(os.environ.get("MONITORING_EVERY_S") or 1)
    device = {"did": os.environ["HAECHI_EID"]} if os.environ.get("HAECHI_EID") else {}
    busy, total = cpu_times()
    while True:
        time.sleep(every_s)
        now_busy, now_total = cpu_times()
        cpu = 100.0 * (now_busy - busy) / max(1, now_total - total)
        busy, total = now_busy, now_total
        memory = memory_percent()
        usage = {"code": "0000", "message": "처리성공", **device}
        try:
            post(url, {**usage, "cpu": round(cpu, 1), "memory": round(memory, 1)})
        except OSError as problem:
            print(f"the receiver is away: {problem}", file=sys.stderr)
            return 1
        print(f"cpu {cpu:.1f} %, memory {memory:.1f} %")


if __name__ == "__main__":
    sys.exit(main())
