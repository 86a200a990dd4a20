"""A name of ours leads somewhere on a host: its `/etc/hosts`, written through.

Not by rename: in a system container that file is a mount of its own.
"""

from typing import Final

from haechi.core.hosts_file import with_name
from haechi.domains.clusters.host.errors import FileMissing
from haechi.domains.clusters.host.ports import Shell

PATH: Final = "/etc/hosts"


async def lead(shell: Shell, name: str, address: str | None) -> bool:
    """Have `name` lead there, or nowhere by us; False where that was so. Needs root's rights only
    where something is to be changed.
    """
    try:
        before = (await shell.read(PATH)).decode("utf-8", "surrogateescape")
    except FileMissing:
        before = ""
    after = with_name(before, name, address)
    if after == before:
        return False
    return await shell.write(PATH, after.encode("utf-8", "surrogateescape"), in_place=True)
