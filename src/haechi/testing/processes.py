"""`haechi` as an operator runs it: the real command in a real process, for tests.

`ServerProcess` is `haechi serve` on one data folder, whose ports stay the same over restarts.
`command` is any other call of the command line, with its own home and no word of this one's.
"""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx2

HAECHI: Final = (sys.executable, "-c", "from haechi.cli.main import main; main()")
PASSWORD: Final = "a-password-for-tests"  # noqa: S105 - of a server that lives for a test
START_LIMIT_S: Final = 180.0
STOP_LIMIT_S: Final = 90.0
_NOT_GIVEN_AWAY: Final = (20_000, 32_000)
"""Below `net.ipv4.ip_local_port_range`."""
_READY: Final = re.compile(r"haechi is ready: (\S+)")


class ServerEnded(Exception):
    """It ended instead of getting ready; the text is its log."""


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nothing listens on, each with a free one after it: of those that the
    kernel gives to nobody who asks for any port, so that they stay free until they are used.
    """
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(*_NOT_GIVEN_AWAY, 2)  # noqa: S311 - no secret
        with socket.socket() as one, socket.socket() as after:
            try:
                one.bind(("127.0.0.1", port))
                after.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


def environment(home: Path, given: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without its haechi settings, and with another home."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("HAECHI_")}
    home.mkdir(parents=True, exist_ok=True)
    return {
        **kept,
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "LANG": "C.UTF-8",
        **(given or {}),
    }


def command(
    *arguments: str,
    home: Path,
    given: Mapping[str, str] | None = None,
    stdin: str = "",
    within_s: float = 180.0,
) -> subprocess.CompletedProcess[str]:
    """Run `haechi …` to its end."""
    return subprocess.run(  # noqa: S603 - the command under test
        [*HAECHI, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=within_s,
        check=False,
        cwd=home,
        env=environment(home, given),
    )


class ServerProcess:
    """`settings` are dotted keys (`builds.timeout_s`), given as environment."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.data_dir = folder / "data"
        self.log_file = folder / "server.log"
        self.settings = {
            "registry.config_home": folder / "docker",
            **{key.replace("__", "."): value for key, value in settings.items()},
        }
        port, self.agents_port, registry = free_ports(3)
        self.registry_port, self.push_port = registry, registry + 1
        self.listen = f"127.0.0.1:{port}"
        self.url = f"http://{self.listen}"
        self.flags = (
            f"--data-dir={self.data_dir}",
            f"--listen={self.listen}",
            f"--agents-listen=127.0.0.1:{self.agents_port}",
            f"--registry-listen=127.0.0.1:{registry}",
        )
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def start(self) -> None:
        """Returns once it is ready. Raises ServerEnded."""
        self.spawn()
        began = len(self._earlier)
        deadline = time.monotonic() + START_LIMIT_S
        while not _READY.search(self.log, began):
            assert self.process is not None
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise ServerEnded(self.log[began:])
            time.sleep(0.05)

    def spawn(self, *flags: str) -> None:
        """Begin it without waiting."""
        self._earlier = self.log
        given = {
            f"HAECHI_{key.replace('.', '__').upper()}": str(value)
            for key, value in self.settings.items()
        }
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 - the command under test
                [*HAECHI, "serve", *self.flags, *flags],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=environment(self.folder / "home", {"HAECHI_ADMIN_PASSWORD": PASSWORD, **given}),
                start_new_session=True,
            )

    def terminate(self, within_s: float = STOP_LIMIT_S) -> int:
        """SIGTERM; its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(within_s)
        finally:
            self.kill()

    def kill(self) -> None:
        """SIGKILL; nothing where it has ended."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(60)

    @contextmanager
    def client(self, language: str = "en") -> Iterator[httpx2.Client]:
        """Signed in as the administrator."""
        with self.anonymous(language) as client:
            login = {"name": "admin", "password": PASSWORD}
            client.post("/session", json=login).raise_for_status()
            yield client

    def anonymous(self, language: str = "en") -> httpx2.Client:
        return httpx2.Client(
            base_url=f"{self.url}/api/v1",
            headers={"Accept-Language": language},
            timeout=60,
            trust_env=False,
        )
