"""What can go wrong when an agent is brought to a host. Each names the host."""

from haechi.errors import Conflict, NotFound, Text, Upstream


class NoAgentImage(NotFound):
    code = "clusters.no_agent_image"
    detail = Text(
        "{platform}용 에이전트 이미지가 없습니다: {reason}",
        "There is no agent image for {platform}: {reason}",
    )
    remedy = Text(
        "'packaging/agent/build.py'로 이미지를 만들거나, agents.image_archive 설정에 이미지 파일을 "
        "지정하세요.",
        "Make it with packaging/agent/build.py, or name an archive of it in the setting "
        "agents.image_archive.",
    )


class NoEngineForAgent(Conflict):
    code = "clusters.no_engine_for_agent"
    detail = Text(
        "호스트 '{host}'에는 에이전트를 실행할 Docker도 Kubernetes도 없습니다.",
        "Host '{host}' has neither Docker nor Kubernetes to run the agent.",
    )
    remedy = Text(
        "Docker를 설치하거나(apt-get install docker.io) 호스트를 클러스터에 넣으세요.",
        "Install Docker (apt-get install docker.io), or make the host part of a cluster.",
    )


class ServerOnLoopback(Conflict):
    code = "clusters.server_on_loopback"
    detail = Text(
        "호스트 '{host}'의 에이전트는 서버 주소 {server}에 접속할 수 없습니다.",
        "The agent of host '{host}' could not reach the server at {server}: it is loopback.",
    )
    remedy = Text(
        "설정 agents.listen과 agents.address에 호스트에서 접속할 수 있는 주소를 지정하세요.",
        "Give the settings agents.listen and agents.address an address that hosts can reach.",
    )


class AgentNotInstalled(NotFound):
    code = "clusters.agent_not_installed"
    detail = Text(
        "호스트 '{host}'에는 haechi가 설치한 에이전트가 없습니다.",
        "Host '{host}' has no agent that haechi installed.",
    )
    remedy = Text(
        "'haechi device install-agent'로 설치하세요.", "Install one: haechi device install-agent."
    )


class AgentNotSeen(Upstream):
    """`log` holds the agent's last lines."""

    code = "clusters.agent_not_seen"
    http_status = 424
    detail = Text(
        "호스트 '{host}'의 에이전트가 {timeout_s}초 안에 서버에 연결하지 않았습니다: {reason}",
        "The agent of host '{host}' did not call in within {timeout_s} s: {reason}",
    )
    remedy = Text(
        "호스트에서 {server}(으)로 가는 네트워크와 방화벽, 에이전트의 로그를 확인하세요.",
        "Check network and firewall from the host to {server}, and the agent's log.",
    )


class AgentRolledBack(Upstream):
    """`log` holds the new agent's last lines."""

    code = "clusters.agent_rolled_back"
    http_status = 424
    detail = Text(
        "호스트 '{host}'의 새 에이전트가 연결하지 않아 이전 것으로 되돌렸습니다: {reason}",
        "The new agent of host '{host}' did not call in; the one before it runs again: {reason}",
    )
    remedy = Text(
        "새 에이전트의 로그를 확인하고 이미지를 고친 뒤 다시 시도하세요.",
        "Read the new agent's log, correct the image and try again.",
    )
