"""A server process of its own, to be killed: `python server_process.py DIR VERSION [HOLD]`.

Deploys VERSION to dev-a, or goes on with what an earlier process left. The engine's containers
are kept in a file, so that they survive the process like real ones. With HOLD (`before:stage` or
`after:stage`) it prints `held` there and waits for its end; without, it prints the outcome.
"""

import asyncio
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).parent))

from conftest import World
from haechi.protocol.desired import ContainerSpec
from haechi.testing.engine import FakeContainer, FakeEngine


@dataclass
class FileEngine(FakeEngine):
    path: Path = Path()

    def load(self) -> None:
        if not self.path.exists():
            return
        kept = json.loads(self.path.read_text())
        self.images = {device: set(images) for device, images in kept["images"].items()}
        for device, found in kept["containers"].items():
            self.containers[device] = {
                one: FakeContainer(
                    msgspec.convert(it["spec"], ContainerSpec),
                    it["token"],
                    it["behaviour"],
                    it["state"],
                    it["starts"],
                )
                for one, it in found.items()
            }

    def save(self) -> None:
        containers = {
            device: {
                one: {
                    "spec": msgspec.to_builtins(it.spec),
                    "token": it.token,
                    "behaviour": it.behaviour,
                    "state": it.state,
                    "starts": it.starts,
                }
                for one, it in found.items()
            }
            for device, found in self.containers.items()
        }
        images = {device: sorted(found) for device, found in self.images.items()}
        self.path.write_text(json.dumps({"containers": containers, "images": images}))


async def main(folder: Path, version: str, hold: str) -> None:
    engine = FileEngine(path=folder / "engine.json")
    engine.load()
    engine.on_change = engine.save
    when, _, stage = hold.partition(":")
    gate = asyncio.Event()
    if when == "before":
        engine.hold[stage] = gate
    elif when == "after":
        engine.hold_after[stage] = gate
    world = World(folder, engine=engine)
    await world.begin()
    found = await world.operations.find()
    active = [one for one in found.items if not one.state.ended and one.parent_id is None]
    operation = active[0] if active else await world.begin_deploy(version)
    if hold:
        await engine.held.wait()
        print("held", flush=True)
        await asyncio.Event().wait()
    ended = await world.operations.wait(operation.id)
    running = [one.version for one in await world.running()]
    print(
        json.dumps(
            {
                "resumed": bool(active),
                "state": ended.state,
                "error": ended.error,
                "running": running,
                "containers": len(engine.containers.get("dev-a", {})),
                "alive": len(engine.running("dev-a")),
                "assigned": await world.assigned(),
            }
        )
    )
    await world.end()


if __name__ == "__main__":
    arguments = [*sys.argv[1:], ""]
    asyncio.run(main(Path(arguments[0]), arguments[1], arguments[2]))
