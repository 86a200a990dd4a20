"""`make demo`: the main job on this machine, shown step by step, until Ctrl-C.

Starts afresh each time in build/demo. Prints the dashboard's address and a login as soon as there
is something to look at.
"""

import asyncio
import signal
import sys
from pathlib import Path

from api import CallFailed
from stage import DEVICES, ROOT, Site, become_root

DATA_DIR = ROOT / "build" / "demo"


def say(line: str) -> None:
    print(f"  {line}", flush=True)


async def show(site: Site) -> None:
    print("haechi demo: a small site on this machine", flush=True)
    cameras = await site.start_cameras()
    await site.start_server()
    await site.furnish(cameras)
    await site.start_agents()
    print(f"\n  dashboard  {site.url}\n  login      admin / {site.password}\n", flush=True)

    say("person-detector: zip, upload, build")
    detector = await site.upload("person-detector", "1")
    say(f"built and pushed in {await site.build(detector):.1f} s")
    seconds, _ = await site.deploy(detector, [plan.name for plan in DEVICES])
    say(f"running on {len(DEVICES)} devices after {seconds:.1f} s; results arrive")

    monitoring = await site.upload("monitoring", "1")
    await site.build(monitoring)
    await site.deploy(monitoring, [DEVICES[1].name])
    say(f"monitoring runs on {DEVICES[1].name}: see its charts before and after")

    await site.move_camera("path", DEVICES[1].name)
    say(
        f"camera {site.title('path')} moved from {DEVICES[0].name} to {DEVICES[1].name}: no restart"
    )
    print("\n  Everything runs. Ctrl-C ends the demo and removes its containers.", flush=True)


async def main() -> int:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with Site(DATA_DIR, say=say) as site:
        showing = asyncio.create_task(show(site))
        stopping = asyncio.create_task(stop.wait())
        done, _ = await asyncio.wait({showing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        try:
            if showing in done:
                await showing
                await stopping
        except CallFailed as error:
            print(f"\nthe demo stopped: {error}\nlogs: {Path(DATA_DIR)}/*.log", file=sys.stderr)
            return 1
        finally:
            showing.cancel()
            stopping.cancel()
            await asyncio.gather(showing, stopping, return_exceptions=True)
            print("\nending the demo", flush=True)
    return 0


if __name__ == "__main__":
    become_root()
    sys.exit(asyncio.run(main()))
