import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

SERVE = Path(__file__).with_name("serve.py")


class Server:
    """A server process on a folder; `kill` is SIGKILL, `start` begins again on the same folder."""

    def __init__(self, data_dir: Path, **settings: Any) -> None:
        self.data_dir = data_dir
        self._arguments = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(SERVE), str(self.data_dir), *self._arguments],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        port = self._process.stdout.readline().strip()
        assert port, "the server did not start"
        self.url = f"http://127.0.0.1:{port}"
        self.http = httpx2.Client(base_url=f"{self.url}/api/v1", timeout=30, trust_env=False)

    def kill(self) -> None:
        self.http.close()
        self._process.kill()
        self._process.wait(timeout=10)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def upload(self, data: Any, version: str = "1", **params: Any) -> httpx2.Response:
        params = {"filename": "a.zip", "version": version, **params}
        return self.http.post("/packages/upload", params=params, content=data)

    def files(self) -> list[str]:
        folder = self.data_dir / "packages"
        return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def begin(data_dir: Path | None = None, **settings: Any) -> Server:
        folder = data_dir or tmp_path / f"data{len(servers)}"
        folder.mkdir(parents=True, exist_ok=True)
        servers.append(Server(folder, **settings))
        return servers[-1]

    yield begin
    for server in servers:
        server.kill()


@pytest.fixture
def server(serve: Callable[..., Server]) -> Server:
    return serve()
