"""A host's own last words, where a step of Kubernetes failed on it."""

import re
from collections.abc import Callable
from typing import Final

from haechi.domains.clusters.errors import HostStepFailed, KubeletNotStarting
from haechi.domains.clusters.host.errors import CommandFailed, CommandTimedOut, short
from haechi.domains.clusters.host.ports import Shell
from haechi.errors import AppError

_TELLING: Final = re.compile(
    r"command failed|run kubelet|fatal|panic|^E\d{4} |level=(error|fatal)|unable to|failed to",
    re.IGNORECASE,
)
_NOISE: Final = re.compile(
    r"network plugin|cni plugin not initialized|NetworkPluginNotReady|node .* not found",
    re.IGNORECASE,
)
_ERROR: Final = re.compile(r'\berr(?:or)?="(?P<text>(?:[^"\\]|\\.)*)"')
LINES: Final = 60
_FAILING: Final = frozenset({"activating", "failed"})
"""What systemd calls a unit that ends and is started again, or is given up. One that was stopped,
as by `kubeadm reset`, is `inactive`."""


async def kubelet_words(shell: Shell) -> tuple[bool, list[str]]:
    """Whether the kubelet fails again and again, and the last lines of its journal."""
    active = await shell.run(
        ["systemctl", "is-active", "kubelet"], root=True, timeout_s=30, check=False
    )
    journal = await shell.run(
        ["journalctl", "-u", "kubelet", "-n", str(LINES), "--no-pager", "-o", "cat"],
        root=True,
        timeout_s=30,
        check=False,
    )
    lines = [line for line in journal.stdout.splitlines() if line.strip()]
    return active.stdout.strip() in _FAILING, lines


def telling_line(lines: list[str]) -> str:
    """The last line that says why; what every young node complains about is passed over."""
    spoken = [line for line in lines if line.strip()]
    telling = [line for line in spoken if _TELLING.search(line)]
    best = [line for line in telling if not _NOISE.search(line)]
    for choice in (best, telling, spoken):
        if choice:
            found = _ERROR.search(choice[-1])
            return short(found.group("text").replace('\\"', '"') if found else choice[-1])
    return ""


async def explained(
    shell: Shell, step: str, error: AppError, log: Callable[[str], None]
) -> AppError:
    """The host's own error for a kubeadm that failed there; `error` itself where the host cannot
    be asked.
    """
    if not isinstance(error, (CommandFailed, CommandTimedOut)):
        return error
    try:
        fails, lines = await kubelet_words(shell)
    except AppError:
        return error
    for line in lines[-20:]:
        log(f"kubelet: {line}")
    said = telling_line(lines)
    host = shell.host.name
    if fails and said:
        return KubeletNotStarting(host=host, step=step, reason=said)
    own = str(error.data.get("message", ""))
    reason = f"{own} (kubelet: {said})" if said else own
    return HostStepFailed(host=host, step=step, reason=short(reason))
