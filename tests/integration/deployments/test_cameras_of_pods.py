"""A pod that knows no assignments is told its camera's address before it is made: by the agent of
its node, which has to know the pod by then.
"""

from haechi.core.clock import SystemClock
from haechi.core.ids import new_id
from haechi.core.tasks import Tasks
from haechi.domains.deployments import store
from haechi.domains.deployments.model import Deployment, DeploymentState, Wishes
from haechi.domains.deployments.specs import container_spec
from haechi.protocol.commands import MEDIA_URL, CameraUrl
from haechi.protocol.problems import NoContainer
from haechi.testing.agent_link import PairedSocket, ScriptedAgent
from haechi.testing.server import running_server
from haechi.testing.waiting import eventually

URL = "rtsp://169.254.84.30:40001/an-unguessable-path"


async def starting(haechi, device_id: str) -> Deployment:
    """One that the engine of a cluster is about to start."""
    one = Deployment(
        id=new_id("deployment"),
        package_id=new_id("package"),
        package_name="counter",
        version_id=new_id("version"),
        version="1",
        device_id=device_id,
        engine="kubernetes",
        image="an-image@sha256:00",
        image_digest="sha256:00",
        name="counter-1",
        strategy="overlap",
        camera="one",
        camera_id="cam-1",
        wishes=Wishes(),
        needs={},
        generation=1,
        replaces=[],
        desired="running",
        state=DeploymentState.STARTING,
        outcome="",
        message="",
        operation_id=None,
        token_digest="",
        created_by="test",
        created_at=SystemClock().now(),
        started_at=None,
        ended_at=None,
    )
    async with haechi.db.write() as tx:
        await store.add_deployment(tx, one)
    return one


async def test_the_agent_is_asked_when_it_has_taken_the_pod_up(tmp_path):
    async with running_server(tmp_path / "data") as server:
        haechi, tasks = server.haechi, Tasks("pods")
        device_id = (await server.client.post("/devices", json={"name": "gate"})).json()["id"]
        there, here = PairedSocket.pair()
        tasks.spawn("serve", haechi.agents.serve(device_id, there, "192.0.2.9"))
        agent = ScriptedAgent(here, device_id)
        agent.applies = False  # by the test: a disk may be slow
        taken: set[str] = set()

        async def tell(_agent, command):
            deployment_id = command.args["deployment_id"]
            if deployment_id not in taken:
                raise NoContainer(deployment_id=deployment_id)
            return CameraUrl(URL)

        agent.on_command[MEDIA_URL.name] = tell
        await agent.start()
        one = await starting(haechi, device_id)
        place = await haechi.places.device(device_id)
        spec = container_spec(one, place, "http://127.0.0.1:8420")
        await haechi.agents.push(device_id)  # as a deployment's start does
        asking = tasks.spawn("ask", haechi._camera_url(device_id, spec))
        waited_for = haechi.agents._desired._entry(device_id).waiters
        await eventually(lambda: agent.commands or waited_for)
        assert not agent.commands
        await agent.until(lambda: agent.desired is not None and agent.desired.workloads)
        taken |= {spec.deployment_id for spec in agent.desired.workloads}
        await agent.report(revision=agent.desired.revision)
        assert await asking == URL
        await agent.close()
        await tasks.close()
