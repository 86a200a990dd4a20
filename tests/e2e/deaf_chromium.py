#!/usr/bin/env python3
"""Run Debian's chromium so that it does not hear of the machine's networks coming and going.

It breaks requests off (ERR_NETWORK_CHANGED) when any network of the machine changes, such as one
that Docker makes for another test. It hears of them through a netlink socket; refused one (a seccomp
filter, which needs no rights and is inherited), it takes the machine for online all the time.
"""

import ctypes
import os
import platform
import shutil
import struct
import sys

AF_NETLINK, EAFNOSUPPORT = 16, 97
SOCKET = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}
"""AUDIT_ARCH_* and the number of socket(2)."""
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD, IF_EQUAL, RETURN = 0x20, 0x15, 0x06
"""BPF_LD | BPF_W | BPF_ABS, BPF_JMP | BPF_JEQ | BPF_K, BPF_RET | BPF_K"""
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16
"""Where they are in struct seccomp_data."""


def refuse_netlink() -> None:
    """From here on, also after exec. Raises OSError where the kernel knows no filters."""
    architecture, socket = SOCKET[platform.machine()]
    program = [
        (LOAD, 0, 0, ARCHITECTURE),
        (IF_EQUAL, 0, 5, architecture),
        (LOAD, 0, 0, NUMBER),
        (IF_EQUAL, 0, 3, socket),
        (LOAD, 0, 0, FIRST_ARGUMENT),
        (IF_EQUAL, 0, 1, AF_NETLINK),
        (RETURN, 0, 0, ERRNO | EAFNOSUPPORT),
        (RETURN, 0, 0, ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    filters = struct.pack("HP", len(program), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    for call in (
        (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filters, 0, 0),
    ):
        if libc.prctl(*call) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    binary = shutil.which("chromium") or shutil.which("chromium-browser")
    if binary is None:
        sys.exit("there is no chromium: run `python3 tools/setup.py --with browser`")
    refuse_netlink()
    os.execv(binary, [binary, *sys.argv[1:]])
