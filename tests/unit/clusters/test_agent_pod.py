"""The agent's static pod: what it may do and what it may not."""

from haechi.domains.clusters.agent.places import docker_run
from haechi.domains.clusters.agent.pod import agent_pod, image_of


def test_it_gets_no_more_of_the_host_than_it_needs():
    pod = agent_pod("haechi.internal/agent:1")
    spec = pod["spec"]
    (container,) = spec["containers"]
    security = container["securityContext"]
    assert security["capabilities"] == {
        "drop": ["ALL"],
        "add": ["DAC_OVERRIDE", "NET_ADMIN", "NET_RAW", "SYS_PTRACE"],
    }
    assert not security.get("privileged")
    paths = {volume["hostPath"]["path"] for volume in spec["volumes"]}
    assert paths == {"/var/lib/haechi-agent", "/sys/fs/cgroup", "/etc/machine-id"}
    writable = {m["name"] for m in container["volumeMounts"] if not m.get("readOnly")}
    assert writable == {"data"}
    assert spec["automountServiceAccountToken"] is False


def test_it_starts_early_stays_and_is_never_fetched():
    spec = agent_pod("haechi.internal/agent:1")["spec"]
    assert spec["tolerations"] == [{"operator": "Exists"}]
    assert spec["priorityClassName"] == "system-node-critical"
    assert spec["restartPolicy"] == "Always"
    assert spec["containers"][0]["imagePullPolicy"] == "Never"
    assert spec["hostNetwork"]
    assert spec["hostPID"]


def test_its_image_is_read_back():
    assert image_of(agent_pod("haechi.internal/agent:7")) == "haechi.internal/agent:7"
    assert image_of({}) == ""
    assert image_of({"spec": {"containers": []}}) == ""


def test_a_docker_hosts_agent():
    argv = docker_run("haechi.internal/agent:1")
    assert argv[:2] == ["docker", "run"]
    assert argv[-1] == "haechi.internal/agent:1"
    assert "--privileged" not in argv
    assert argv[argv.index("--cap-drop") + 1] == "ALL"
    assert argv[argv.index("--network") + 1] == "host"
