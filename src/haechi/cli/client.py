"""The CLI's way to the API: credentials, errors with exit codes, tables, `--json`, progress.

Everything a command does goes through the public API, so the CLI can do nothing that a script
could not. Exit codes: CONTRACTS 1.
"""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

import click
import httpx2

from haechi.errors import AppError, Language

EXIT_USAGE: Final = 2
EXIT_NOT_FOUND: Final = 3
EXIT_CONFLICT: Final = 4
EXIT_UPSTREAM: Final = 5
EXIT_NOT_ALLOWED: Final = 6
EXIT_BUG: Final = 70

UNREACHABLE: Final = "cli.unreachable"
DEFAULT_URL: Final = "http://127.0.0.1:8420"
_TIMEOUT: Final = httpx2.Timeout(300, connect=5)
"""Some answers come only after hosts were spoken to, over whatever link they have."""


def exit_code(status: int) -> int:
    """HTTP status → CLI exit code."""
    if status == 404:
        return EXIT_NOT_FOUND
    if status in {409, 412, 423, 429, 503}:
        return EXIT_CONFLICT
    if status in {401, 403}:
        return EXIT_NOT_ALLOWED
    if status in {502, 504, 507}:
        return EXIT_UPSTREAM
    return EXIT_USAGE if status < 500 else EXIT_BUG


class ApiError(click.ClickException):
    """A problem answer of the API, shown as its own words and remedy."""

    def __init__(self, status: int, problem: Mapping[str, Any], *, as_json: bool) -> None:
        super().__init__(str(problem.get("detail") or problem))
        self.problem = dict(problem)
        self._status = status
        self._as_json = as_json

    @property
    def exit_code(self) -> int:  # type: ignore[override]  # click reads it as an attribute
        return exit_code(self._status)

    def show(self, file: Any = None) -> None:
        if self._as_json:
            click.echo(json.dumps(self.problem, ensure_ascii=False), file=file or sys.stderr)
            return
        code = self.problem.get("code", "")
        click.secho(f"✗ {self.message}", fg="red", err=True)
        problems = self.problem.get("data", {}).get("problems", [])
        told = [item for item in problems if item.get("detail") != self.message]
        for item in told:
            where = f"{item['path']}: " if item.get("path") else ""
            click.echo(f"  - {where}{item.get('detail', item)}", err=True)
        if self.problem.get("remedy"):
            click.echo(f"  → {self.problem['remedy']}", err=True)
        click.secho(f"  [{code}] {self.problem.get('request_id', '')}", dim=True, err=True)


@dataclass
class Api:
    """One per command. `json_output` is the global `--json` flag."""

    url: str
    token: str | None
    language: str
    json_output: bool
    ca_file: str | None = None
    _client: httpx2.Client | None = field(default=None, repr=False)

    @property
    def client(self) -> httpx2.Client:
        if self._client is None:
            headers = {"Accept-Language": self.language}
            if self.token:
                headers["Authorization"] = f"Bearer {self.token}"
            verify: Any = True
            if self.ca_file:
                import ssl

                verify = ssl.create_default_context(cafile=self.ca_file)
            self._client = httpx2.Client(
                base_url=self.url.rstrip("/") + "/api/v1",
                headers=headers,
                timeout=_TIMEOUT,
                verify=verify,
                trust_env=False,
            )
        return self._client

    @contextmanager
    def refusals(self) -> Iterator[None]:
        """A local refusal looks and exits like the server's."""
        try:
            yield
        except AppError as error:
            language: Language = "ko" if self.language == "ko" else "en"
            problem = error.problem(language)
            raise ApiError(error.http_status, problem, as_json=self.json_output) from error

    def request(self, method: str, path: str, **kwargs: Any) -> httpx2.Response:
        """Send and check. Raises ApiError, or exits with a hint where nobody answers."""
        try:
            response = self.client.request(method, path, **kwargs)
        except httpx2.TransportError as error:
            self.unreachable(error)
        self.check(response)
        return response

    def check(self, response: httpx2.Response) -> None:
        if response.is_success:
            return
        try:
            response.read()
            problem = response.json()
        except ValueError:
            problem = {"detail": f"HTTP {response.status_code}", "code": "cli.no_problem"}
        raise ApiError(response.status_code, problem, as_json=self.json_output)

    def unreachable(self, error: Exception) -> NoReturn:
        ko = self.language == "ko"
        detail = (
            f"{self.url}의 haechi 서버에 연결할 수 없습니다: {error}"
            if ko
            else f"No haechi server answers at {self.url}: {error}"
        )
        remedy = (
            "'haechi serve'가 실행 중인지, --url 또는 HAECHI_URL이 맞는지 확인하세요."
            if ko
            else "Check that `haechi serve` runs and that --url or HAECHI_URL is right."
        )
        problem = {"code": UNREACHABLE, "detail": detail, "remedy": remedy}
        raise ApiError(502, problem, as_json=self.json_output) from error

    def get(self, path: str, **params: Any) -> Any:
        given = {key: value for key, value in params.items() if value is not None}
        return self.request("GET", path, params=given).json()

    def get_all(self, path: str, **params: Any) -> list[Any]:
        """Every item of a list, page by page."""
        items: list[Any] = []
        cursor = None
        while True:
            page = self.get(path, cursor=cursor, **params)
            items += page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return items

    def post(self, path: str, body: Any = None, **params: Any) -> Any:
        response = self.request("POST", path, json=body, params=_given(params))
        return response.json() if response.content else None

    def put(self, path: str, body: Any, **params: Any) -> Any:
        response = self.request("PUT", path, json=body, params=_given(params))
        return response.json() if response.content else None

    def edit(self, path: str, changes: Mapping[str, Any]) -> Any:
        """PATCH with the ETag of what is there now."""
        etag = self.request("GET", path).headers.get("etag", "*")
        response = self.request("PATCH", path, json=dict(changes), headers={"If-Match": etag})
        return response.json()

    def delete(self, path: str, **params: Any) -> Any:
        response = self.request("DELETE", path, params=_given(params))
        return response.json() if response.content else None

    @contextmanager
    def stream(self, method: str, path: str, **kwargs: Any) -> Iterator[httpx2.Response]:
        """An answer read piece by piece, without a read limit."""
        kwargs.setdefault("timeout", httpx2.Timeout(None, connect=5))
        try:
            with self.client.stream(method, path, **kwargs) as response:
                self.check(response)
                yield response
        except httpx2.TransportError as error:
            self.unreachable(error)

    def upload(self, path: str, file: Path, *, method: str = "POST", **params: Any) -> Any:
        """Send a file's bytes as the body, with a progress bar for people."""
        from haechi.cli.show import upload_progress

        with file.open("rb") as opened, upload_progress(file, quiet=self.json_output) as advance:

            def pieces() -> Iterator[bytes]:
                while piece := opened.read(256 * 1024):
                    yield piece
                    advance(len(piece))

            response = self.request(
                method,
                path,
                params=_given(params),
                content=pieces(),
                headers={
                    "Content-Type": "application/zip",
                    "Content-Length": str(file.stat().st_size),
                },
                timeout=httpx2.Timeout(600, connect=5),
            )
        return response.json()

    def show(self, data: Any, columns: Sequence[str] | None = None) -> None:
        """The API's JSON with `--json`; a table (list) or key-value lines (object) for people."""
        from haechi.cli.show import show

        show(data, columns, as_json=self.json_output)

    def say(self, ko: str, en: str) -> None:
        """A sentence for people; nothing with `--json`."""
        if not self.json_output:
            click.echo(ko if self.language == "ko" else en)

    def follow_operation(self, operation_id: str) -> Any:
        """Show an operation's progress until it ends; exits by its outcome."""
        from haechi.cli.show import follow_operation

        return follow_operation(self, operation_id)


def _given(params: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in params.items() if value is not None}


def credentials_path() -> Path:
    """Where `haechi login` keeps the token (0600)."""
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "haechi" / "credentials.json"


def load_credentials() -> dict[str, str]:
    try:
        content = json.loads(credentials_path().read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def api(ctx: click.Context) -> Api:
    """The Api of the running command."""
    found = ctx.find_object(Api)
    assert found is not None
    return found


pass_api = click.make_pass_decorator(Api)
