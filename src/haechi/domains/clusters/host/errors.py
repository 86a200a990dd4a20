"""What can go wrong on the way to a host and on it. Each names the host and says what to do."""

from typing import Final

from haechi.errors import Conflict, Forbidden, Invalid, NotFound, Text, Unavailable, Upstream

MESSAGE_LIMIT: Final = 400


def short(message: str) -> str:
    """A program's words, on one line and of bounded length; the end says most."""
    line = " ".join(message.split())
    return line if len(line) <= MESSAGE_LIMIT else "…" + line[-(MESSAGE_LIMIT - 1) :]


class HostAway(Unavailable):
    """Base of what may go away by itself: worth trying again later."""

    title = Text("호스트에 연결할 수 없음", "Host away")


class HostUnreachable(HostAway):
    code = "clusters.host_unreachable"
    detail = Text(
        "호스트 '{host}'({address})에 연결할 수 없습니다: {reason}",
        "Host '{host}' ({address}) cannot be reached: {reason}",
    )
    remedy = Text(
        "장치의 전원과 네트워크 연결, 등록된 주소를 확인하세요.",
        "Check the device's power and network, and its address in the inventory.",
    )


class HostRefused(HostAway):
    code = "clusters.host_refused"
    detail = Text(
        "호스트 '{host}'({address})의 {port}번 포트가 SSH 연결을 거부했습니다.",
        "Host '{host}' ({address}) refused the SSH connection on port {port}.",
    )
    remedy = Text(
        "호스트에서 sshd가 실행 중인지(systemctl status ssh)와 등록된 SSH 포트를 확인하세요.",
        "Check on the host that sshd runs (systemctl status ssh), and the SSH port in the "
        "inventory.",
    )


class HostTimedOut(HostAway):
    code = "clusters.host_timed_out"
    http_status = 504
    detail = Text(
        "호스트 '{host}'({address})이(가) {timeout_s}초 안에 응답하지 않았습니다 ({what}).",
        "Host '{host}' ({address}) did not answer within {timeout_s} s ({what}).",
    )
    remedy = Text(
        "전원, 네트워크, 방화벽과 장치의 부하를 확인하세요.",
        "Check power, network, firewall and the load of the device.",
    )


class HostConnectionLost(HostAway):
    """The connection ended in the middle of a command; whether it ran to its end is not known."""

    code = "clusters.host_connection_lost"
    detail = Text(
        "호스트 '{host}'({address})와의 연결이 '{what}' 도중에 끊겼습니다: {reason}",
        "The connection to host '{host}' ({address}) was lost during '{what}': {reason}",
    )
    remedy = Text(
        "장치가 켜져 있고 네트워크가 안정적인지 확인하세요. 작업은 같은 단계에서 이어집니다.",
        "Check that the device is on and its network stable. Work goes on from the same step.",
    )


class HostStalled(HostAway):
    code = "clusters.host_stalled"
    http_status = 504
    detail = Text(
        "호스트 '{host}'({address})에서 '{what}'이(가) {stall_s}초 동안 진행되지 않았습니다.",
        "On host '{host}' ({address}), '{what}' did not move for {stall_s} s.",
    )
    remedy = Text(
        "네트워크 품질과 장치의 부하·디스크를 확인한 뒤 다시 시도하세요.",
        "Check the network's quality and the device's load and disk, then try again.",
    )


class HostNotSsh(Upstream):
    code = "clusters.host_not_ssh"
    title = Text("SSH 응답 아님", "No SSH")
    detail = Text(
        "호스트 '{host}'({address})의 {port}번 포트와 SSH로 통신할 수 없습니다: {reason}",
        "Host '{host}' ({address}) cannot be spoken to in SSH on port {port}: {reason}",
    )
    remedy = Text(
        "장치 편집에서 SSH 포트를 확인하세요. 다른 프로그램이 그 포트를 쓰고 있을 수 있습니다.",
        "Check the SSH port in the device's settings; another program may be using it.",
    )


class LoginRefused(Forbidden):
    code = "clusters.login_refused"
    http_status = 502
    detail = Text(
        "호스트 '{host}'({address})이(가) 사용자 '{user}'의 SSH 로그인({method})을 거부했습니다.",
        "Host '{host}' ({address}) refused the SSH login of '{user}' (by {method}).",
    )
    remedy = Text(
        "장치 편집에서 SSH 사용자와 비밀번호 또는 키를 고치고, 호스트의 sshd가 그 방식을 "
        "허용하는지 확인하세요.",
        "Correct SSH user and password or key in the device's settings, and check that the host's "
        "sshd allows that way of logging in.",
    )


class PrivateKeyUnusable(Invalid):
    code = "clusters.private_key_unusable"
    detail = Text(
        "호스트 '{host}'에 저장된 SSH 개인 키를 쓸 수 없습니다: {reason}",
        "The SSH private key stored for host '{host}' cannot be used: {reason}",
    )
    remedy = Text(
        "암호 없는 OpenSSH 또는 PEM 형식의 개인 키를 장치 편집에서 다시 입력하세요.",
        "Enter a private key in OpenSSH or PEM form, without passphrase, in the device's settings.",
    )


class HostKeyUnknown(Conflict):
    code = "clusters.host_key_unknown"
    detail = Text(
        "호스트 '{host}'({address})와 처음 연결합니다. 호스트 키 지문은 {fingerprint}입니다.",
        "This is the first contact with host '{host}' ({address}). Its host key is {fingerprint}.",
    )
    remedy = Text(
        "호스트에서 ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub으로 지문을 확인한 뒤, "
        "이 키를 신뢰한다고 알려 주세요.",
        "Compare it on the host with ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub, then say "
        "that this key is to be trusted.",
    )


class HostKeyChanged(Conflict):
    code = "clusters.host_key_changed"
    detail = Text(
        "호스트 '{host}'({address})의 호스트 키가 다릅니다. 알고 있는 키: {expected}, 지금 키: "
        "{fingerprint}",
        "Host '{host}' ({address}) shows another host key. Known: {expected}, shown now: "
        "{fingerprint}",
    )
    remedy = Text(
        "호스트를 새로 설치했거나 주소가 다른 장치로 바뀌지 않았는지 확인하세요. 새로 설치한 "
        "것이 맞으면 새 키를 신뢰한다고 알려 주세요. 아니면 누군가 연결을 가로채고 있을 수 "
        "있습니다.",
        "Find out whether the host was installed anew or its address now belongs to another "
        "device. If it was installed anew, say that the new key is to be trusted; otherwise "
        "somebody may be intercepting the connection.",
    )


class NoAddress(Invalid):
    code = "clusters.no_address"
    detail = Text("장치 '{host}'에 주소가 없습니다.", "Device '{host}' has no address.")
    remedy = Text(
        "장치 편집에서 IP 주소나 이름을 입력하세요.",
        "Enter an IP address or name in the device's settings.",
    )


class SudoAsks(Forbidden):
    """sudo wants a password and none is stored: the login is by key."""

    code = "clusters.sudo_asks"
    http_status = 502
    detail = Text(
        "호스트 '{host}'에서 '{user}'의 sudo가 비밀번호를 요구하지만 저장된 비밀번호가 없습니다.",
        "On host '{host}', sudo asks '{user}' for a password, and none is stored.",
    )
    remedy = Text(
        "장치 편집에서 비밀번호를 입력하거나, 호스트에서 sudo를 NOPASSWD로 설정하세요.",
        "Enter the password in the device's settings, or allow sudo with NOPASSWD on the host.",
    )


class SudoRefused(Forbidden):
    code = "clusters.sudo_refused"
    http_status = 502
    detail = Text(
        "호스트 '{host}'에서 '{user}'의 sudo가 거부되었습니다: {message}",
        "On host '{host}', sudo refused '{user}': {message}",
    )
    remedy = Text(
        "사용자가 sudo를 쓸 수 있는지(sudo -l)와 저장된 비밀번호를 확인하세요.",
        "Check that the user may use sudo (sudo -l), and the stored password.",
    )


class CommandFailed(Upstream):
    code = "clusters.host_command_failed"
    title = Text("호스트 명령 실패", "Command failed on a host")
    detail = Text(
        "호스트 '{host}'에서 '{command}' 명령이 실패했습니다 (종료 코드 {status}): {message}",
        "On host '{host}', '{command}' failed with status {status}: {message}",
    )
    remedy = Text(
        "메시지의 원인을 호스트에서 없앤 뒤 다시 시도하세요.",
        "Remove the cause named in the message on the host, then try again.",
    )


class CommandTimedOut(Upstream):
    code = "clusters.host_command_timed_out"
    http_status = 504
    title = Text("호스트 명령 시간 초과", "Command timed out on a host")
    detail = Text(
        "호스트 '{host}'에서 '{command}' 명령이 {timeout_s}초 안에 끝나지 않았습니다: {message}",
        "On host '{host}', '{command}' did not end within {timeout_s} s: {message}",
    )
    remedy = Text(
        "장치의 부하와 디스크 상태를 확인한 뒤 다시 시도하세요.",
        "Check the load and disk of the device, then try again.",
    )


class HostDiskFull(Upstream):
    code = "clusters.host_disk_full"
    http_status = 507
    title = Text("호스트 디스크 공간 부족", "Host disk full")
    detail = Text(
        "호스트 '{host}'의 디스크에 공간이 부족합니다 ({path}).",
        "The disk of host '{host}' is full ({path}).",
    )
    remedy = Text(
        "호스트에서 공간을 비우거나 디스크를 늘린 뒤 다시 시도하세요.",
        "Free space on the host or add disk, then try again.",
    )


class FactsUnreadable(Upstream):
    code = "clusters.facts_unreadable"
    detail = Text(
        "호스트 '{host}'의 상태를 읽지 못했습니다: {reason}",
        "What host '{host}' is like could not be read: {reason}",
    )
    remedy = Text(
        "호스트가 Debian 또는 Ubuntu인지, sh와 coreutils가 정상인지 확인하세요.",
        "Check that the host runs Debian or Ubuntu and that its sh and coreutils are sound.",
    )


class TunnelRefused(Upstream):
    code = "clusters.tunnel_refused"
    detail = Text(
        "호스트 '{host}'의 {end}에 연결할 수 없습니다: {reason}",
        "{end} on host '{host}' cannot be connected to: {reason}",
    )
    remedy = Text(
        "호스트에서 그 서비스가 실행 중인지와 SSH 사용자의 권한을 확인하세요.",
        "Check on the host that the service runs and that the SSH user may use it.",
    )


class FileMissing(NotFound):
    code = "clusters.host_file_missing"
    detail = Text(
        "호스트 '{host}'에 파일 {path}이(가) 없습니다.", "Host '{host}' has no file {path}."
    )
    remedy = Text("경로를 확인하세요.", "Check the path.")


class FileTooLarge(Upstream):
    code = "clusters.host_file_too_large"
    detail = Text(
        "호스트 '{host}'의 파일 {path}이(가) {limit_bytes}바이트보다 큽니다.",
        "The file {path} on host '{host}' has more than {limit_bytes} bytes.",
    )
    remedy = Text("파일이 올바른지 확인하세요.", "Check that it is the right file.")


class TransferDamaged(Upstream):
    code = "clusters.transfer_damaged"
    detail = Text(
        "호스트 '{host}'로 보낸 파일 {path}의 내용이 원본과 다릅니다.",
        "The file {path} sent to host '{host}' differs from its source.",
    )
    remedy = Text(
        "다시 시도하세요. 되풀이되면 장치의 디스크와 메모리를 점검하세요.",
        "Try again; if it happens again, examine the device's disk and memory.",
    )


class PackagesNotInstalled(Upstream):
    code = "clusters.packages_not_installed"
    detail = Text(
        "호스트 '{host}'에 패키지를 설치하지 못했습니다: {message}",
        "Packages could not be installed on host '{host}': {message}",
    )
    remedy = Text(
        "호스트에서 'dpkg --configure -a'와 'apt-get -f install'이 성공하는지, 다른 설치가 진행 "
        "중이 아닌지 확인한 뒤 다시 시도하세요.",
        "Check on the host that `dpkg --configure -a` and `apt-get -f install` succeed and that no "
        "other installation is under way, then try again.",
    )


class PackagesUnavailable(Upstream):
    code = "clusters.packages_unavailable"
    detail = Text(
        "호스트 '{host}'의 패키지 목록에 필요한 것이 없습니다: {packages}",
        "The package sources of host '{host}' do not have what is needed: {packages}",
    )
    remedy = Text(
        "호스트의 apt에 Kubernetes와 containerd 2.x 저장소(또는 사내 미러)를 추가하거나, 오프라인 "
        "번들로 구성하세요.",
        "Add a source of Kubernetes and containerd 2 (or the site's mirror) to the host's apt, or "
        "form from the offline bundle.",
    )


class RepositoriesUnreachable(Upstream):
    """`sources`: those that did not answer, each with apt's reason."""

    code = "clusters.repositories_unreachable"
    detail = Text(
        "호스트 '{host}'이(가) 패키지 저장소에 연결하지 못합니다: {sources}",
        "Host '{host}' cannot reach its package sources: {sources}",
    )
    remedy = Text(
        "인터넷이 없는 호스트라면 오프라인 번들로 구성하세요(--source bundle). 아니면 호스트의 "
        "네트워크, DNS, 프록시, apt 저장소 주소를 확인하세요.",
        "Where the host has no internet, form from the offline bundle (--source bundle). Else "
        "check the host's network, DNS and proxy, and the addresses in its apt sources.",
    )


class RuntimeNotStarting(Upstream):
    code = "clusters.runtime_not_starting"
    detail = Text(
        "호스트 '{host}'에서 containerd가 시작되지 않습니다: {message}",
        "containerd does not start on host '{host}': {message}",
    )
    remedy = Text(
        "호스트에서 'journalctl -u containerd'를 확인하세요.",
        "Read `journalctl -u containerd` on the host.",
    )


class RuntimeUnreadable(Upstream):
    """`what`: the file or the command whose text is no TOML."""

    code = "clusters.runtime_unreadable"
    detail = Text(
        "호스트 '{host}'의 containerd 설정({what})을 읽을 수 없습니다: {message}",
        "The settings of containerd on host '{host}' ({what}) cannot be read: {message}",
    )
    remedy = Text(
        "호스트에서 'containerd config dump'가 성공하도록 /etc/containerd의 파일을 고치세요.",
        "Correct the files in /etc/containerd on the host until `containerd config dump` succeeds.",
    )


class ImagesNotImported(Upstream):
    code = "clusters.images_not_imported"
    detail = Text(
        "호스트 '{host}'에 이미지를 넣지 못했습니다: {message}",
        "Images could not be imported on host '{host}': {message}",
    )
    remedy = Text(
        "디스크 공간과 'journalctl -u containerd'를 확인한 뒤 다시 시도하세요.",
        "Check disk space and `journalctl -u containerd`, then try again.",
    )


class NotCleaned(Upstream):
    code = "clusters.host_not_cleaned"
    detail = Text(
        "호스트 '{host}'에 지우지 못한 것이 있습니다: {what}",
        "Something is left on host '{host}' that could not be removed: {what}",
    )
    remedy = Text(
        "호스트에서 무엇이 그것을 쓰고 있는지 확인하고 다시 시도하세요. 재부팅하면 대개 풀립니다.",
        "Find out on the host what uses it and try again; a reboot usually frees it.",
    )
