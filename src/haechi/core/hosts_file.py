"""A line of our own in a hosts file: a name of haechi's leads to an address where no name service
knows it. Text to text: whoever holds the file writes it (`docker_trust` on the spot, `lead` of
`domains.clusters.host.hosts_file` on another host).
"""

from typing import Final

_WORD: Final = "haechi"
"""How the comment of our lines begins."""


def with_name(text: str, name: str, address: str | None) -> str:
    """The content of a hosts file in which `name` leads to `address`, or, where it is None, nowhere
    by us. The same text where it is so already. Lines of others stay as they are; ours goes before
    them, because the first one that names it counts.
    """
    lines = text.splitlines()
    ours = [line for line in lines if _is_ours(line, name)]
    kept = [line for line in lines if line not in ours]
    if address is None:
        if not ours:
            return text
    elif _leads(lines, name) == address and all(_leads([one], name) == address for one in ours):
        return text
    else:
        kept.insert(0, f"{address} {name} # {_WORD}")
    return "".join(f"{line}\n" for line in kept)


def _is_ours(line: str, name: str) -> bool:
    words, _, comment = line.partition("#")
    return words.split()[1:] == [name] and comment.split()[:1] == [_WORD]


def _leads(lines: list[str], name: str) -> str | None:
    """Where the first line that names it leads."""
    for line in lines:
        address, *names = line.partition("#")[0].split() or [""]
        if name in names:
            return address
    return None
