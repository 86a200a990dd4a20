"""What can go wrong with the Docker of a host that is reached over SSH. Each names the host."""

from haechi.errors import Conflict, Text, Unavailable


class DockerHostAway(Unavailable):
    code = "docker_host.away"
    title = Text("호스트의 Docker에 연결할 수 없음", "Docker of the host away")
    detail = Text(
        "호스트 '{host}'({address})의 Docker가 응답하지 않습니다: {reason}",
        "The Docker of host '{host}' ({address}) does not answer: {reason}",
    )
    remedy = Text(
        "호스트에서 Docker가 실행 중인지 확인하세요(systemctl status docker).",
        "Check on the host that Docker runs (systemctl status docker).",
    )


class NoDocker(Conflict):
    code = "docker_host.no_docker"
    detail = Text(
        "호스트 '{host}'({address})에 Docker 소켓 {socket}이(가) 없습니다.",
        "Host '{host}' ({address}) has no Docker socket at {socket}.",
    )
    remedy = Text(
        "호스트에 Docker를 설치하고 시작하세요(apt-get install docker.io).",
        "Install and start Docker on the host (apt-get install docker.io).",
    )


class RegistryNotWired(Conflict):
    """The host's own words are in `reason`."""

    code = "docker_host.registry_not_wired"
    detail = Text(
        "호스트 '{host}'의 Docker가 레지스트리 {registry}을(를) 신뢰하도록 설정하지 못했습니다: "
        "{reason}",
        "The Docker of host '{host}' could not be told to trust the registry {registry}: {reason}",
    )
    remedy = Text(
        "SSH 사용자에게 sudo 권한을 주거나, 호스트의 {files} 파일을 직접 만드세요.",
        "Give the SSH user sudo, or make the files {files} on the host by hand.",
    )


class NotFenced(Conflict):
    code = "docker_host.not_fenced"
    detail = Text(
        "호스트 '{host}'에서 AI가 다른 곳에 접속하지 못하게 막을 수 없습니다: {reason}",
        "On host '{host}' an AI cannot be kept from calling others: {reason}",
    )
    remedy = Text(
        "SSH 사용자에게 sudo 권한을 주고 호스트에 iptables가 있는지 확인하세요. 인터넷을 쓴다고 "
        "밝힌 패키지는 인터넷을 허용하여(--allow internet) 배포할 수 있습니다.",
        "Give the SSH user sudo, and check that the host has iptables. A package that declares the "
        "internet can be deployed with it allowed (--allow internet).",
    )


class OnlyOnLoopback(Conflict):
    code = "docker_host.only_on_loopback"
    detail = Text(
        "{what}의 주소 {address}은(는) 이 서버 안에서만 쓸 수 있어 호스트 '{host}'에서 접속할 수 "
        "없습니다.",
        "The {what} answers at {address}, which host '{host}' cannot reach: it is loopback.",
    )
    remedy = Text(
        "설정 {setting}에 호스트에서 접속할 수 있는 서버 주소를 지정하세요.",
        "Give the setting {setting} an address of this server that the host can reach.",
    )


class NeedsAgent(Conflict):
    code = "docker_host.needs_agent"
    detail = Text(
        "카메라 하나를 환경 변수로 받는 패키지는 에이전트가 없는 호스트 '{host}'에서 실행할 수 "
        "없습니다.",
        "A package that gets its camera by environment cannot run on host '{host}', which has no "
        "agent.",
    )
    remedy = Text(
        "'haechi device install-agent'로 에이전트를 설치하고 장치의 engine 레이블을 지우세요.",
        "Install an agent (`haechi device install-agent`) and take the label `engine` off the "
        "device.",
    )
