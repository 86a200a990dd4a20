"""A real uvicorn on loopback with real certificates: what the application learns of the caller."""

import asyncio
import ssl
from contextlib import asynccontextmanager
from types import SimpleNamespace

import httpx2
import pytest
import websockets
from fastapi import Depends, FastAPI, WebSocket
from starlette.requests import Request
from websockets.exceptions import InvalidStatus

from haechi.core import pki, trust
from haechi.core.access import SYSTEM, requires
from haechi.core.clock import SystemClock
from haechi.core.db import Database
from haechi.core.secrets import Keyring
from haechi.domains.audit.service import Audit
from haechi.domains.auth.service import Auth
from haechi.testing.auth import PASSWORD, cheap_passwords
from haechi.testing.clock import FakeClock
from haechi.web import errors
from haechi.web.security import Gate, Shield
from haechi.web.server import Listener, Servers
from haechi.web.tls import HttpProtocol, ListenerTls, WebSocketProtocol, local_addresses, own_hosts

pytestmark = pytest.mark.integration
SERVER, DEVICE = "sit-aaaaaaaaaaaaaaaa", "dev-aaaaaaaaaaaaaaaa"
NAME = trust.server_name(SERVER)


def open_ca(path, server_id=SERVER, clock=None):
    keyring = Keyring.open(path / "keyring")
    return pki.SiteCa.open(
        path / "pki", server_id=server_id, keyring=keyring, clock=clock or SystemClock()
    )


def agent_app(gate):
    api = FastAPI(dependencies=[Depends(gate)], openapi_url=None)
    api.state.language = "en"
    errors.install(api)

    @api.get("/who")
    @requires(None, also={"device"})
    async def who(request: Request) -> dict[str, str]:
        return {"device_id": request.state.principal.device_id}

    @api.websocket("/connect")
    @requires(None, also={"device"})
    async def connect(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text(socket.state.principal.device_id)
        await socket.close()

    return Shield(api, gate=gate, render=errors.problem_response, api=api)


@asynccontextmanager
async def serving(app, tls):
    listener = Listener(
        app=app,
        address="127.0.0.1:0",
        ssl_context=tls.context,
        http=HttpProtocol,
        ws=WebSocketProtocol,
    )
    servers = Servers([listener], lambda: None)
    running = asyncio.get_running_loop().create_task(servers.run())
    try:
        async with asyncio.timeout(60):
            while not servers.started:
                await asyncio.sleep(0.01)
        yield servers.addresses[0][1]
    finally:
        servers.stop()
        await running


@pytest.fixture
async def site(tmp_path):
    db = Database(tmp_path / "control.sqlite")
    await db.create_all()
    clock = SystemClock()
    audit = Audit(db=db, clock=clock)
    ca = open_ca(tmp_path)
    auth = Auth(
        db=db,
        clock=clock,
        audit=audit,
        ca=ca,
        data_dir=tmp_path,
        session_hours=1,
        max_failures=5,
        passwords=cheap_passwords(),
    )
    await auth.start({"HAECHI_ADMIN_PASSWORD": PASSWORD})
    tls = ListenerTls(ca, "agents", list, clients="optional")
    async with serving(agent_app(Gate(authenticator=auth.authenticator)), tls) as port:
        yield SimpleNamespace(db=db, ca=ca, auth=auth, port=port, path=tmp_path, tls=tls)
    await db.close()


async def certify(site, ca=None):
    """A device's key and certificate, issued by `ca` (the site's own: and recorded)."""
    key, csr = pki.make_key_and_csr(DEVICE)
    if ca is None:
        async with site.db.write() as tx:
            issued = await site.auth.machines.issue_device_certificate(tx, DEVICE, csr)
    else:
        issued = ca.sign_device(DEVICE, csr)
    key_file, certificate_file = site.path / "device.key", site.path / "device.pem"
    key_file.write_text(key)
    certificate_file.write_text(issued.pem)
    return {"key_file": key_file, "certificate_file": certificate_file}


async def get_who(site, **certificate):
    context = trust.client_context(site.ca.pem, **certificate)
    async with httpx2.AsyncClient(verify=context, trust_env=False) as client:
        return await client.get(
            f"https://127.0.0.1:{site.port}/who", extensions={"sni_hostname": NAME}
        )


def dial(site, **certificate):
    context = trust.client_context(site.ca.pem, **certificate)
    return websockets.connect(
        f"wss://127.0.0.1:{site.port}/connect", ssl=context, server_hostname=NAME, proxy=None
    )


async def test_with_a_certificate(site):
    certificate = await certify(site)
    assert (await get_who(site, **certificate)).json() == {"device_id": DEVICE}
    async with dial(site, **certificate) as socket:
        assert await socket.recv() == DEVICE


async def test_without_one(site):
    assert (await get_who(site)).status_code == 401
    with pytest.raises(InvalidStatus) as refused:
        await dial(site)
    assert refused.value.response.status_code == 401
    assert b"auth.not_signed_in" in refused.value.response.body


async def test_of_a_foreign_ca(site, tmp_path):
    (tmp_path / "foreign").mkdir()
    certificate = await certify(site, open_ca(tmp_path / "foreign"))
    with pytest.raises((httpx2.TransportError, ssl.SSLError)):
        await get_who(site, **certificate)
    with pytest.raises((OSError, websockets.WebSocketException)):
        await dial(site, **certificate)


async def test_revoked(site):
    certificate = await certify(site)
    assert (await get_who(site, **certificate)).status_code == 200
    async with site.db.write() as tx:
        await site.auth.machines.revoke_device(tx, DEVICE, SYSTEM)
    answer = await get_who(site, **certificate)
    assert (answer.status_code, answer.json()["code"]) == (401, "auth.certificate_revoked")
    with pytest.raises(InvalidStatus) as refused:
        await dial(site, **certificate)
    assert b"auth.certificate_revoked" in refused.value.response.body


async def test_the_agent_does_not_talk_to_another_server_of_the_same_ca(site):
    context = trust.client_context(site.ca.pem)
    other = trust.server_name("sit-bbbbbbbbbbbbbbbb")
    async with httpx2.AsyncClient(verify=context, trust_env=False) as client:
        with pytest.raises(httpx2.ConnectError, match=r"(?i)hostname mismatch"):
            await client.get(
                f"https://127.0.0.1:{site.port}/who", extensions={"sni_hostname": other}
            )


async def test_an_agent_without_a_clock_checks_all_but_the_dates(site, tmp_path):
    """The server's certificate lies in the past for the agent: CONTRACTS 3."""
    past = FakeClock()  # years ago: what it issues has expired
    (tmp_path / "old").mkdir()
    past.set_wall(past.now().replace(year=2020))
    ca = open_ca(tmp_path / "old", clock=past)
    tls = ListenerTls(ca, "agents", list)
    async with serving(agent_app(Gate(authenticator=site.auth.authenticator)), tls) as port:
        for check_dates, outcome in ((True, httpx2.ConnectError), (False, None)):
            context = trust.client_context(ca.pem, check_dates=check_dates)
            async with httpx2.AsyncClient(verify=context, trust_env=False) as client:
                call = client.get(
                    f"https://127.0.0.1:{port}/who", extensions={"sni_hostname": NAME}
                )
                if outcome is None:
                    assert (await call).status_code == 401
                else:
                    with pytest.raises(outcome, match="expired"):
                        await call
        foreign = trust.client_context(site.ca.pem, check_dates=False)
        async with httpx2.AsyncClient(verify=foreign, trust_env=False) as client:
            with pytest.raises(httpx2.ConnectError):
                await client.get(f"https://127.0.0.1:{port}/who", extensions={"sni_hostname": NAME})


async def test_the_ca_is_fetched_by_its_fingerprint(site):
    fetch = asyncio.to_thread(trust.fetch_ca, "127.0.0.1", site.port, site.ca.fingerprint)
    assert trust.pem_to_der(await fetch) == trust.pem_to_der(site.ca.pem)
    with pytest.raises(trust.ServerNotTrusted):
        await asyncio.to_thread(trust.fetch_ca, "127.0.0.1", site.port, "sha256:" + "0" * 64)


async def test_no_server_there():
    with pytest.raises(trust.ServerNotTrusted):
        await asyncio.to_thread(trust.fetch_ca, "127.0.0.1", 1, "sha256:00", timeout_s=2)


async def test_a_renewed_certificate_is_shown_without_a_restart(site):
    def shown():
        return ssl.get_server_certificate(("127.0.0.1", site.port))

    before = await asyncio.to_thread(shown)
    assert not site.tls.refresh()
    site.tls._hosts = lambda: ["10.9.8.7"]
    assert site.tls.refresh()
    assert await asyncio.to_thread(shown) != before


async def test_agents_as_peers_check_each_other(site, tmp_path):
    """Device certificates serve too; the name is the device's."""
    certificate = await certify(site)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate["certificate_file"], certificate["key_file"])
    client = trust.client_context(site.ca.pem)
    listening = await asyncio.start_server(
        lambda reader, writer: writer.close(), "127.0.0.1", 0, ssl=server
    )
    port = listening.sockets[0].getsockname()[1]
    for name, good in ((trust.device_name(DEVICE), True), (NAME, False)):
        call = asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname=name)
        if good:
            _, writer = await call
            writer.close()
        else:
            with pytest.raises(ssl.SSLCertVerificationError):
                await call
    listening.close()
    await listening.wait_closed()


def test_own_hosts_are_addresses_that_others_dial():
    hosts = own_hosts("0.0.0.0:8421", "[::]:1", "site.example:8421", "[fd00::5]:8421", "")
    assert {"site.example", "fd00::5"} <= set(hosts)
    assert not {"0.0.0.0", "::", ""} & set(hosts)
    assert "127.0.0.1" not in local_addresses()
