"""A real server and a real browser; every page is watched for foreign requests and errors.

The dashboard must have been built (`make dashboard`): the server serves the built files.
"""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Queue
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Page,
    Response,
    StorageState,
    expect,
    sync_playwright,
)

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "src" / "haechi" / "web" / "static"
CHROMIUM = Path(__file__).with_name("deaf_chromium.py")
NAME, PASSWORD = "admin", "e2e-admin-password"
START_S = 180
BROWSER_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
]

expect.set_options(timeout=60_000)


@dataclass
class Site:
    """A running `haechi serve` with its own data folder."""

    url: str
    folder: Path
    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)


def start_site(folder: Path, **environment: str) -> Site:
    """Start a server on free loopback ports and wait until it says that it is ready."""
    loopback = ["listen", "agents-listen", "registry-listen"]
    flags = [f"--{name}=127.0.0.1:0" for name in loopback]
    process = subprocess.Popen(
        [
            Path(sys.executable).with_name("haechi"),
            "serve",
            f"--data-dir={folder / 'data'}",
            *flags,
        ],
        env={**os.environ, "HAECHI_REGISTRY__PUSH_LISTEN": "127.0.0.1:0", **environment},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    site = Site("", folder / "data", process)
    heard: Queue[str | None] = Queue()

    def listen() -> None:
        for line in process.stderr or ():
            site.lines.append(line)
            heard.put(line)
        heard.put(None)
        if process.stderr:
            process.stderr.close()

    threading.Thread(target=listen, daemon=True).start()
    while not site.url:
        try:
            line = heard.get(timeout=START_S)
        except Empty:
            line = None
        if line is None:
            process.kill()
            pytest.fail("the server did not start:\n" + "".join(site.lines))
        if ready := re.search(r"haechi is ready: (\S+)", line):
            site.url = ready[1]
    return site


def stop_site(site: Site) -> None:
    site.process.send_signal(signal.SIGTERM)  # the listening thread ends with the pipe
    try:
        site.process.wait(timeout=90)
    except subprocess.TimeoutExpired:
        site.process.kill()
        pytest.fail("the server did not stop:\n" + "".join(site.lines[-50:]))


@pytest.fixture(scope="session")
def new_site(tmp_path_factory) -> Iterator[Callable[..., Site]]:
    """Start servers, each with a data folder of its own; all are stopped in the end."""
    if not (STATIC / "index.html").exists():
        pytest.fail("the dashboard is not built: run `make dashboard` first")
    running: list[Site] = []

    def start(**environment: str) -> Site:
        running.append(start_site(tmp_path_factory.mktemp("site"), **environment))
        return running[-1]

    yield start
    for each in running:
        stop_site(each)


@pytest.fixture(scope="session")
def site(new_site) -> Site:
    return new_site(HAECHI_ADMIN_PASSWORD=PASSWORD)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=BROWSER_FLAGS)
        yield started
        started.close()


@dataclass
class Watch:
    """What a page asked for and complained about. `refusals`: answers that a test provokes."""

    origin: str
    hosts: set[str] = field(default_factory=set)
    complaints: list[str] = field(default_factory=list)
    statuses: list[tuple[int, str]] = field(default_factory=list)
    refusals: set[int] = field(default_factory=set)

    def follow(self, page: Page) -> None:
        page.on("request", lambda request: self.hosts.add(origin_of(request.url)))
        page.on("websocket", lambda socket: self.hosts.add(origin_of(socket.url)))
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(f"page error: {error}"))
        page.on("response", self._see)

    def check(self) -> None:
        """Nothing foreign was asked for, and only provoked refusals went wrong."""
        foreign = self.hosts - {self.origin}
        assert not foreign, f"requests to foreign hosts: {foreign}"
        bad = [(status, url) for status, url in self.statuses if status not in self.refusals]
        assert not bad, f"unexpected answers: {bad}"
        assert not self.complaints, f"the console says: {self.complaints}"

    def _hear(self, message: ConsoleMessage) -> None:
        # The browser itself logs each answer of 400 and more; `statuses` judges those.
        if message.type in {"error", "warning"} and "status of" not in message.text:
            self.complaints.append(f"{message.type}: {message.text}")

    def _see(self, response: Response) -> None:
        if response.status >= 400:
            self.statuses.append((response.status, response.url))


def origin_of(url: str) -> str:
    parts = urlsplit(url)
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    return f"{scheme}://{parts.netloc}"


@pytest.fixture
def watch(site) -> Iterator[Watch]:
    found = Watch(site.url)
    yield found
    found.check()


@pytest.fixture
def page(site, browser, watch) -> Iterator[Page]:
    """An empty page of a fresh browser profile that speaks Korean."""
    context = browser.new_context(
        base_url=site.url, locale="ko-KR", viewport={"width": 1600, "height": 1000}
    )
    context.set_default_timeout(60_000)
    opened = context.new_page()
    watch.follow(opened)
    yield opened
    context.close()


@pytest.fixture
def sign_in(page, watch) -> Callable[..., None]:
    """Through the form, in Korean. The first look at /me is refused: that is how it begins."""

    def enter(password: str = PASSWORD) -> None:
        watch.refusals.add(401)
        page.goto("/")
        page.get_by_label("이름").fill(NAME)
        page.get_by_label("비밀번호").fill(password)
        page.get_by_role("button", name="로그인").click()

    return enter


@pytest.fixture(scope="session")
def session_state(site, browser) -> StorageState:
    """Cookies of one sign-in for the tests that are about something else."""
    context = browser.new_context(base_url=site.url)
    entered = context.request.post(
        "/api/v1/session", data={"name": NAME, "password": PASSWORD}, timeout=60_000
    )
    assert entered.ok
    state = context.storage_state()
    context.close()
    return state


@pytest.fixture
def signed_in(page, session_state) -> Page:
    page.context.add_cookies(session_state["cookies"])
    page.goto("/")
    expect(page.get_by_role("navigation", name="주 메뉴")).to_be_visible()
    return page
