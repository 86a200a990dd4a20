import sys
from pathlib import Path

import pytest

from haechi.domains.clusters.bundle import elf
from haechi.testing.bundles import tiny_program


@pytest.mark.parametrize("arch", ["amd64", "arm64"])
def test_machine_of_a_static_program(arch):
    assert elf.read(tiny_program(arch, "x")) == elf.Elf(f"linux/{arch}", static=True)


def test_a_program_with_an_interpreter_is_not_static():
    head = bytearray(tiny_program("amd64", "x"))
    head[64:68] = (3).to_bytes(4, "little")  # the type of its program header
    assert elf.read(bytes(head)) == elf.Elf("linux/amd64", static=False)


def test_this_interpreter_is_a_program():
    with Path(sys.executable).open("rb") as file:
        found = elf.read(file.read(elf.HEAD_BYTES))
    assert found is not None
    assert found.platform.startswith("linux/")


def test_a_machine_that_nobody_knows():
    head = bytearray(tiny_program("amd64", "x"))
    head[18:20] = (243).to_bytes(2, "little")
    assert elf.read(bytes(head)).platform == "machine 243"


@pytest.mark.parametrize(
    "head",
    [b"", b"#!/bin/sh\n", b"\x7fELF", b"\x7fELF" + bytes(100), tiny_program("amd64", "x")[:40]],
)
def test_no_program(head):
    assert elf.read(head) is None


def test_a_header_that_points_beyond_the_file_does_no_harm():
    head = bytearray(tiny_program("amd64", "x"))
    head[32:40] = (1 << 60).to_bytes(8, "little")
    assert elf.read(bytes(head)).static
