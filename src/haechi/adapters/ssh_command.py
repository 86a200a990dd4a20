"""How a program is started on a host, so that it has root's rights, a time limit and a name.

    sh -c WRAP <ready> <marker> timeout -k 5 60 kubeadm init …
    sudo -S -p <ask> -- sh -c WRAP …                                where root is needed

The host's own `timeout` ends the program even when the connection is gone. WRAP prints `<ready>`
and the process id on standard error before the program starts: until then everything there is
sudo's, and the password is written only when `<ask>` is seen, so that it never ends up as the
program's input. `<marker>` in the environment is how a later connection finds what an earlier one
left running.
"""

import secrets
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from haechi.domains.clusters.host.ports import Privilege

KILL_AFTER_S: Final = 5
MARKER_NAME: Final = "HAECHI_RUN"

_WRAP: Final = (
    f'export LC_ALL=C.UTF-8 {MARKER_NAME}="$1"; '
    'PATH="$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/sbin"; '
    'printf "%s %s\\n" "$0" "$$" >&2; shift; exec "$@"'
)

_SETTLE: Final = f"""
owner=$1; shift
for environ in $(grep -lszF "{MARKER_NAME}=$owner." /proc/[0-9]*/environ); do
  run=$(tr '\\0' '\\n' 2>/dev/null <"$environ" | sed -n 's/^{MARKER_NAME}=//p')
  case "$run" in "$owner".*) ;; *) continue ;; esac
  for live in "$@"; do [ "$run" = "$live" ] && continue 2; done
  pid=${{environ#/proc/}}; pid=${{pid%/environ}}
  kill -TERM "$pid" 2>/dev/null && echo "$pid"
done
exit 0
"""


def settling(owner: str, live: Sequence[str]) -> list[str]:
    """Ends what this owner's earlier connections left running; prints their process ids. `live`:
    markers (`owner.connection`) of connections that are still there.
    """
    return ["sh", "-c", _SETTLE, "sh", owner, *live]


def ending(pid: int) -> list[str]:
    """Ends a command and its children."""
    script = 'kill -TERM -- "-$1" 2>/dev/null || kill -TERM "$1" 2>/dev/null; exit 0'
    return ["sh", "-c", script, "sh", str(pid)]


def new_word() -> str:
    return "haechi-" + secrets.token_hex(8)


@dataclass(frozen=True, slots=True)
class Start:
    """What is sent to the host's login shell, and the words to look for."""

    line: str
    ready: str
    ask: str

    @classmethod
    def of(
        cls,
        argv: Sequence[str],
        *,
        privilege: Privilege | None,
        timeout_s: float | None,
        marker: str,
        ready: str,
        ask: str,
    ) -> "Start":
        """`privilege`: how root's rights are had; None: as whoever logged in."""
        limited = list(argv)
        if timeout_s is not None:
            limited = ["timeout", "-k", str(KILL_AFTER_S), f"{timeout_s:g}", *argv]
        words = ["sh", "-c", _WRAP, ready, marker, *limited]
        if privilege == "sudo":
            words = ["sudo", "-S", "-p", ask, "--", *words]
        return cls(shlex.join(words), ready, ask)


class Word(Enum):
    """What standard error has said before the program began."""

    NOTHING = auto()
    ASKED = auto()
    READY = auto()


@dataclass
class Preamble:
    """Reads standard error up to `ready`."""

    start: Start
    heard: bytes = b""
    """What sudo said: the reason where the program never began."""
    pid: int | None = None
    rest: bytes = field(default=b"")
    """What came after `ready`: the program's own."""

    def hear(self, data: bytes) -> Word:
        self.heard += data
        line_at = self.heard.find(self.start.ready.encode() + b" ")
        if line_at >= 0:
            end = self.heard.find(b"\n", line_at)
            if end < 0:
                return Word.NOTHING
            self.pid = int(self.heard[line_at:end].split()[1])
            self.rest = self.heard[end + 1 :]
            self.heard = self.heard[:line_at]
            return Word.READY
        ask = self.start.ask.encode()
        if ask in self.heard:
            self.heard = self.heard.replace(ask, b"", 1)
            return Word.ASKED
        return Word.NOTHING
