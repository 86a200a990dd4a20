"""Which machine a program is for and whether it stands alone, from its ELF header.

Source: System V ABI, chapters 4 and 5 (e_machine, program headers).
"""

import struct
from dataclasses import dataclass
from typing import Final

MACHINES: Final = {62: "linux/amd64", 183: "linux/arm64", 3: "linux/386", 40: "linux/arm"}
HEAD_BYTES: Final = 4096
"""Enough of a file for its header and program headers."""
_INTERPRETER: Final = 3


@dataclass(frozen=True, slots=True)
class Elf:
    platform: str
    """`linux/amd64`; `machine 243` where it is none we know."""
    static: bool
    """Needs no dynamic loader."""


def read(head: bytes) -> Elf | None:
    """From a file's first bytes (HEAD_BYTES); None where it is no 64- or 32-bit ELF program."""
    if len(head) < 64 or head[:4] != b"\x7fELF" or head[4] not in {1, 2} or head[5] not in {1, 2}:
        return None
    order = "<" if head[5] == 1 else ">"
    (machine,) = struct.unpack_from(f"{order}H", head, 18)
    if head[4] == 2:
        (start,) = struct.unpack_from(f"{order}Q", head, 32)
        size, count = struct.unpack_from(f"{order}HH", head, 54)
    else:
        (start,) = struct.unpack_from(f"{order}I", head, 28)
        size, count = struct.unpack_from(f"{order}HH", head, 42)
    kinds = [
        struct.unpack_from(f"{order}I", head, start + number * size)[0]
        for number in range(count)
        if start + number * size + 4 <= len(head)
    ]
    return Elf(MACHINES.get(machine, f"machine {machine}"), _INTERPRETER not in kinds)
