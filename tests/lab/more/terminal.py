"""A terminal in which a test types commands as people do: with answers to what they are asked."""

import fcntl
import json
import os
import pty
import select
import shlex
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

LIMIT_S = 1800.0
WINDOW = {"COLUMNS", "LINES"}
"""How large the window is that the tests are run in, which is not this one."""


@dataclass
class Terminal:
    """A window in which somebody types: wide, so that tables are not folded."""

    env: dict[str, str]
    folder: Path

    def types(
        self, words: Sequence[str], *, answers: Mapping[str, str] | None = None, status: int = 0
    ) -> str:
        """What it showed to its end, which must be of this status. `answers`: question → answer."""
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 400, 0, 0))
        try:
            process = subprocess.Popen(
                ["setsid", "--ctty", *words],
                stdin=slave,
                stdout=slave,
                stderr=slave,
                cwd=self.folder,
                env={name: self.env[name] for name in self.env.keys() - WINDOW},
            )
        finally:
            os.close(slave)
        try:
            shown = self._talk(process, master, dict(answers or {}))
            ended = process.wait(60)
        finally:
            os.close(master)
            process.kill()
            process.wait(60)
        print(f"$ {shlex.join(words)}\n{shown}")
        assert ended == status, f"{shlex.join(words)} ended with {ended}: {shown[-4000:]}"
        return shown

    @staticmethod
    def _talk(process: subprocess.Popen[bytes], master: int, answers: dict[str, str]) -> str:
        shown, looked = "", 0
        limit_s = time.monotonic() + LIMIT_S
        while time.monotonic() < limit_s:
            if not select.select([master], [], [], 1)[0]:
                continue
            try:
                piece = os.read(master, 65536)
            except OSError:  # its other end is closed: the program has ended
                return click.unstyle(shown).replace("\r\n", "\n")
            shown += piece.decode(errors="replace")
            for question in [one for one in answers if one in shown[looked:]]:
                looked = len(shown)
                os.write(master, answers.pop(question).encode() + b"\n")
        raise AssertionError(f"{process.args} takes over {LIMIT_S:g} s: {shown[-4000:]}")

    def asks(self, *words: str, status: int | None = 0) -> Any:
        """The same command for a program: its JSON."""
        done = subprocess.run(
            ["haechi", "--json", *words[1:]],
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
            cwd=self.folder,
            env=self.env,
        )
        assert status in (None, done.returncode), done.stdout + done.stderr
        return json.loads(done.stdout)
