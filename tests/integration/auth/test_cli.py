"""The commands against a real server on loopback."""

import asyncio
import json
import stat

import pytest
from click.testing import CliRunner

from haechi.cli.main import main
from haechi.testing.auth import PASSWORD
from haechi.web.server import Listener, Servers
from haechi.web.tls import HttpProtocol, ListenerTls, WebSocketProtocol

pytestmark = pytest.mark.integration


@pytest.fixture
async def cli(site, tmp_path, monkeypatch):
    tls = ListenerTls(site.ca, "server", list)
    servers = Servers(
        [
            Listener(app=site.app, address="127.0.0.1:0"),
            Listener(
                app=site.app,
                address="127.0.0.1:0",
                ssl_context=tls.context,
                http=HttpProtocol,
                ws=WebSocketProtocol,
            ),
        ],
        lambda: None,
    )
    running = asyncio.get_running_loop().create_task(servers.run())
    plain, secure = (port for _, port in servers.addresses)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HAECHI_URL", f"http://127.0.0.1:{plain}")
    monkeypatch.setenv("HAECHI_LANGUAGE", "en")
    monkeypatch.delenv("HAECHI_TOKEN", raising=False)

    async def run(*arguments, stdin=None, code=0):
        outcome = await asyncio.to_thread(CliRunner().invoke, main, arguments, input=stdin)
        assert outcome.exit_code == code, outcome.output
        return outcome.output

    run.saved = tmp_path / "config" / "haechi" / "credentials.json"
    run.secure = f"https://127.0.0.1:{secure}"
    yield run
    servers.stop()
    await running


async def test_log_in_use_and_log_out(cli):
    assert "auth.not_signed_in" in await cli("user", "list", code=6)
    output = await cli("login", "admin", "--password-stdin", stdin=PASSWORD + "\n")
    assert "Signed in as admin" in output
    assert PASSWORD not in output
    assert stat.S_IMODE(cli.saved.stat().st_mode) == 0o600
    assert PASSWORD not in cli.saved.read_text()
    assert "admin" in await cli("user", "list")
    token = json.loads(cli.saved.read_text())["token"]
    await cli("logout")
    assert not cli.saved.exists()
    await cli("--token", token, "user", "list", code=6)


async def test_a_wrong_password(cli):
    output = await cli("login", "admin", "--password-stdin", stdin="wrong\n", code=6)
    assert "auth.wrong_credentials" in output
    assert not cli.saved.exists()


async def test_one_is_shown_oneself_and_chooses_ones_language(cli):
    await cli("login", "admin", "--password-stdin", stdin=PASSWORD + "\n")
    me = json.loads(await cli("--json", "user", "me"))
    assert (me["name"], me["role"]) == ("admin", "admin")
    for language in ("ko", "en"):
        chosen = await cli("--json", "user", "me", "--user-language", language)
        assert json.loads(chosen)["language"] == language
        assert json.loads(await cli("--json", "user", "me"))["language"] == language


async def test_users(cli):
    await cli("login", "admin", "--password-stdin", stdin=PASSWORD + "\n")
    made = json.loads(
        await cli("--json", "user", "create", "kim", "--password-stdin", stdin="first password 1\n")
    )
    assert (made["name"], made["role"]) == ("kim", "viewer")
    assert "operator" in await cli("user", "edit", "kim", "--role", "operator")
    await cli("user", "edit", "kim", "--disable")
    assert json.loads(await cli("--json", "user", "show", "Kim"))["disabled"] is True
    await cli("user", "edit", "kim", "--enable")
    await cli("user", "edit", "kim", code=2)
    await cli("user", "reset-password", "kim", "--password-stdin", stdin="second password\n")
    assert "auth.last_admin" in await cli("user", "delete", "admin", "--yes", code=4)
    await cli("user", "show", "nobody", code=3)
    output = await cli("login", "kim", "--password-stdin", stdin="second password\n")
    assert "must be changed" in output
    await cli("user", "password", "--password-stdin", stdin="second password\nthird password\n")
    await cli("token", "list")
    await cli("user", "list", code=6)
    await cli("login", "admin", "--password-stdin", stdin=PASSWORD + "\n")
    await cli("user", "delete", "kim", "--yes")
    await cli("user", "show", "kim", code=3)


async def test_tokens(cli, monkeypatch):
    await cli("login", "admin", "--password-stdin", stdin=PASSWORD + "\n")
    made = json.loads(
        await cli("--json", "token", "create", "ci", "--role", "operator", "--days", "3650")
    )
    assert made["id"] in await cli("token", "list")
    cli.saved.unlink()
    monkeypatch.setenv("HAECHI_TOKEN", made["secret"])
    listed = json.loads(await cli("--json", "token", "list"))
    assert [t["id"] for t in listed] == [made["id"]]
    await cli("user", "list", code=6)
    await cli("token", "delete", made["id"])
    await cli("token", "list", code=6)


async def test_the_saved_session_is_not_shown_to_another_server(cli, monkeypatch):
    await cli("login", "admin", "--password-stdin", stdin=PASSWORD + "\n")
    seen = []

    async def other(reader, writer):
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(other, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    await cli("--url", f"http://127.0.0.1:{port}", "user", "list", code=6)
    server.close()
    await server.wait_closed()
    assert seen
    assert b"authorization" not in seen[0].lower()


async def test_https_with_the_sites_own_ca(cli, site):
    login = ("--url", cli.secure, "login", "admin", "--password-stdin", "--ca-fingerprint")
    output = await cli(*login, "sha256:" + "0" * 64, stdin=PASSWORD + "\n", code=5)
    assert "core.server_not_trusted" in output
    await cli(*login, site.ca.fingerprint, stdin=PASSWORD + "\n")
    assert "admin" in await cli("--url", cli.secure, "user", "list")
