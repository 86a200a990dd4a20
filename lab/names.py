"""Names that say whose a thing is, so that what a killed run left behind can be told and removed.

A container or network is called `haechi-lab-<owner>-<site>-<host>`; `<owner>` is the number of the
process that made it, or `kept` for a site started from the command line. Its label has the owner
with the process's start time, because process numbers come round again.
"""

import ipaddress
import os
import re
from collections.abc import Iterator
from pathlib import Path

PREFIX = "haechi-lab"
LABEL = "haechi.lab"  # containers and networks of the lab have it
OWNER, SITE, HOST = f"{LABEL}.owner", f"{LABEL}.site", f"{LABEL}.host"
KEPT = "kept"
PATTERN = re.compile(r"[a-z0-9]([a-z0-9-]{0,28}[a-z0-9])?")
SUBNETS = ipaddress.ip_network("10.77.0.0/16")
FIRST_HOST = 11  # .1 is the machine's side of the bridge, .2 to .10 are for what a test adds


def this_process() -> str:
    """The owner's mark of the running process: number and start time."""
    pid = os.getpid()
    return f"{pid}.{started(pid)}"


def started(pid: int) -> int | None:
    """When a process began, in clock ticks since the machine did; None if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The program's name is in brackets and may hold anything, brackets too.
    return int(stat.rpartition(")")[2].split()[19])


def alive(owner: str) -> bool:
    """Is there still somebody who will clean up after this owner?"""
    if owner == KEPT:
        return True
    pid, _, began = owner.partition(".")
    if not pid.isdigit() or not began.isdigit():
        return False
    return started(int(pid)) == int(began)


def network(owner: str, site: str) -> str:
    return f"{PREFIX}-{owner.partition('.')[0]}-{site}"


def container(owner: str, site: str, host: str) -> str:
    return f"{network(owner, site)}-{host}"


def valid(name: str) -> str:
    """The name, if it may be one of a site or host."""
    if not PATTERN.fullmatch(name):
        raise ValueError(f"{name!r} is no name here: small letters, digits and dashes, at most 30")
    return name


def subnets(start: int) -> Iterator[ipaddress.IPv4Network]:
    """All of the lab's subnets once, from the one that `start` falls on."""
    known = list(SUBNETS.subnets(new_prefix=24))
    for step in range(len(known)):
        subnet = known[(start + step) % len(known)]
        assert isinstance(subnet, ipaddress.IPv4Network)
        yield subnet
