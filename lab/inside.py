"""Programs inside a running host, past its network.

Its namespaces and cgroups are entered directly. `podman exec` does the same for twenty times the
work, and tests ask hosts again and again until something is so.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

CGROUPS = Path("/sys/fs/cgroup")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENTER = 'for place in $CGROUPS; do echo $$ > "$place"; done; exec "$@"'
AGAIN = 'until sh -euc "$1"; do sleep 1; done'


@dataclass(frozen=True)
class Inside:
    """A host from its start to its end: the process of its init, as this machine counts."""

    pid: int
    began: str
    cgroups: tuple[Path, ...]

    @classmethod
    def of(cls, pid: int) -> Self:
        """Raises OSError where it has ended."""
        return cls(pid, _began(pid), tuple(_cgroups(pid)))

    @property
    def there(self) -> bool:
        """Is it still that process, and no other that got its number?"""
        try:
            return _began(self.pid) == self.began
        except OSError:
            return False

    def argv(self, *words: str, user: str = "root") -> list[str]:
        """What runs these words in there as this user, with nothing of our environment."""
        home = "/root" if user == "root" else f"/home/{user}"
        who = [] if user == "root" else ["setpriv", f"--reuid={user}", f"--regid={user}"]
        if who:
            who.append("--init-groups")
        given = (f"PATH={PATH}", f"HOME={home}", f"USER={user}", "container=podman")
        return [
            *("env", f"CGROUPS={' '.join(map(str, self.cgroups))}", "sh", "-c", ENTER, "sh"),
            *("nsenter", f"--target={self.pid}", "--all", "--"),
            *(*who, "env", "-i", *given, *words),
        ]


def _began(pid: int) -> str:
    """Its start time in clock ticks since boot: proc(5), field 22."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def _cgroups(pid: int) -> list[Path]:
    """Where a process joins those that it is in: cgroups(7)."""
    found = []
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for name in {controllers, *controllers.split(",")} if controllers else ("", "unified"):
            place = CGROUPS / name.removeprefix("name=") / path.lstrip("/") / "cgroup.procs"
            if place.exists():
                found.append(place)
                break
    return found
