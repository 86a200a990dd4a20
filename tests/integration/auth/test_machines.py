"""Devices and deployments: one-time enrolment, certificates, tokens bound to their device."""

import asyncio

import pytest
import sqlalchemy as sa

from haechi.core import pki
from haechi.core.access import SYSTEM
from haechi.core.secrets import token_digest
from haechi.core.trust import pem_to_der
from haechi.domains.auth.errors import (
    BadCertificateRequest,
    CertificateRevoked,
    EnrolmentRefused,
    TokenOfAnotherDevice,
)
from haechi.domains.auth.model import Peer
from haechi.domains.auth.store import EnrolmentTokenRow

pytestmark = pytest.mark.integration
FACTS = {"package_id": "pkg-a", "version_id": "ver-a", "image_digest": "sha256:aa"}
ONE, TWO = "dev-aaaaaaaaaaaaaaaa", "dev-bbbbbbbbbbbbbbbb"
DEPLOYMENT = "dep-aaaaaaaaaaaaaaaa"


async def enrol(site, device_id=ONE):
    async with site.db.write() as tx:
        return await site.auth.machines.issue_enrolment_token(tx, device_id, SYSTEM)


async def redeem(site, token):
    async with site.db.write() as tx:
        return await site.auth.machines.redeem_enrolment_token(tx, token)


async def certify(site, device_id=ONE, *, renew=False):
    machines = site.auth.machines
    issue = machines.renew_device_certificate if renew else machines.issue_device_certificate
    _, csr = pki.make_key_and_csr("whatever it claims")
    async with site.db.write() as tx:
        return pem_to_der((await issue(tx, device_id, csr)).pem)


async def deploy(site, device_id=ONE, **more):
    async with site.db.write() as tx:
        secret, digest = await site.auth.machines.issue_deployment_token(
            tx, deployment_id=DEPLOYMENT, device_id=device_id, facts=FACTS, **more
        )
    assert digest == token_digest(secret.reveal())
    return secret.reveal()


async def test_an_enrolment_token_works_once(site):
    token = await enrol(site)
    assert token.secret.reveal() not in repr(token)
    assert await redeem(site, token.secret.reveal()) == ONE
    with pytest.raises(EnrolmentRefused) as refused:
        await redeem(site, token.secret.reveal())
    assert refused.value.data == {"reason": "used"}


async def test_of_many_callers_at_once_one_gets_it(site):
    secret = (await enrol(site)).secret.reveal()
    outcomes = await asyncio.gather(
        *(redeem(site, secret) for _ in range(20)), return_exceptions=True
    )
    assert sum(outcome == ONE for outcome in outcomes) == 1
    assert sum(isinstance(outcome, EnrolmentRefused) for outcome in outcomes) == 19


async def test_a_failed_enrolment_does_not_use_the_token_up(site):
    secret = (await enrol(site)).secret.reveal()
    with pytest.raises(BadCertificateRequest):
        async with site.db.write() as tx:
            device_id = await site.auth.machines.redeem_enrolment_token(tx, secret)
            await site.auth.machines.issue_device_certificate(tx, device_id, "not a request")
    assert await redeem(site, secret) == ONE


async def test_an_hour_and_no_longer(site):
    secret = (await enrol(site)).secret.reveal()
    await site.clock.advance(3601)
    with pytest.raises(EnrolmentRefused, match="expired"):
        await redeem(site, secret)
    with pytest.raises(EnrolmentRefused, match="unknown"):
        await redeem(site, "hce_made-up")


async def test_a_new_one_replaces_the_unused_one(site):
    first = (await enrol(site)).secret.reveal()
    second = (await enrol(site)).secret.reveal()
    with pytest.raises(EnrolmentRefused):
        await redeem(site, first)
    assert await redeem(site, second) == ONE
    async with site.db.read() as tx:
        rows = list(await tx.scalars(sa.select(EnrolmentTokenRow.digest)))
    assert second not in rows


async def test_a_certificate_says_what_the_server_decided(site):
    der = await certify(site)
    principal = await site.auth.authenticator.by_certificate(der)
    assert (principal.kind, principal.id, principal.device_id) == ("device", ONE, ONE)
    assert principal.role is None


async def test_revoked_means_refused_at_the_next_call(site):
    der = await certify(site)
    assert await site.auth.authenticator.by_certificate(der)
    async with site.db.write() as tx:
        await site.auth.machines.revoke_device(tx, ONE, SYSTEM)
    with pytest.raises(CertificateRevoked):
        await site.auth.authenticator.by_certificate(der)


async def test_enrolling_again_ends_the_old_certificate_renewing_does_not(site):
    authenticator = site.auth.authenticator
    first = await certify(site)
    await site.clock.advance(1)
    second = await certify(site)
    with pytest.raises(CertificateRevoked):
        await authenticator.by_certificate(first)
    assert await authenticator.by_certificate(second)
    await site.clock.advance(1)
    third = await certify(site, renew=True)
    assert await authenticator.by_certificate(second)  # the answer may have been lost
    assert await authenticator.by_certificate(third)  # used: now it is the one
    await site.clock.advance(5)
    with pytest.raises(CertificateRevoked):
        await authenticator.by_certificate(second)


async def test_a_certificate_the_table_does_not_know_is_refused(site):
    _, csr = pki.make_key_and_csr("x")
    der = pem_to_der(site.ca.sign_device(ONE, csr).pem)
    with pytest.raises(CertificateRevoked):
        await site.auth.authenticator.by_certificate(der)


async def test_a_server_certificate_is_no_device(site):
    files = site.ca.server_files("server", [])
    der = pem_to_der(files.certificate.read_text())
    assert await site.auth.authenticator.by_certificate(der) is None
    assert await site.auth.authenticator.by_certificate(b"rubbish") is None


async def test_a_deployment_token_proves_device_and_image(site):
    token = await deploy(site)
    by = await site.auth.authenticator.by_token(token, Peer(device_id=ONE))
    assert (by.kind, by.deployment_id, by.device_id) == ("deployment", DEPLOYMENT, ONE)
    assert by.facts == FACTS
    assert by.role is None


async def test_a_stolen_deployment_token_is_refused_and_reported_once(site):
    token = await deploy(site)
    for peer in (Peer("10.0.0.66"), Peer("10.0.0.66", device_id=TWO), Peer("10.0.0.67")):
        with pytest.raises(TokenOfAnotherDevice):
            await site.auth.authenticator.by_token(token, peer)
    entries = (await site.audit.find(action="refuse_token")).items
    assert [e.details for e in entries] == [{"address": "10.0.0.66", "device_id": None}]
    answer = await site.client(Authorization=f"Bearer {token}").post("/machine")
    assert (answer.status_code, answer.json()["code"]) == (403, "auth.token_of_another_device")
    assert token not in answer.text


async def test_a_token_for_a_device_without_an_agent(site):
    token = await deploy(site, direct=True)
    program = site.client(Authorization=f"Bearer {token}")
    answer = await program.post("/machine")
    assert answer.json() == {"device_id": ONE, **FACTS}
    assert (await program.get("/me")).status_code == 403
    assert (await program.post("/upload", content=b"x")).status_code == 403
    with pytest.raises(TokenOfAnotherDevice):
        await site.auth.authenticator.by_token(token, Peer(device_id=TWO))


async def test_an_agent_speaks_only_for_deployments_of_its_device(site):
    await deploy(site)
    machines = site.auth.machines
    assert (await machines.deployment_principal(DEPLOYMENT, ONE)).facts == FACTS
    assert await machines.deployment_principal(DEPLOYMENT, TWO) is None
    assert await machines.deployment_principal("dep-unknown", ONE) is None


async def test_a_revoked_deployment_is_nobody_at_once(site):
    token = await deploy(site, direct=True)
    assert await site.auth.authenticator.by_token(token)
    assert await site.auth.machines.deployment_principal(DEPLOYMENT, ONE)
    async with site.db.write() as tx:
        await site.auth.machines.revoke_deployment_token(tx, DEPLOYMENT)
    assert await site.auth.authenticator.by_token(token) is None
    assert await site.auth.machines.deployment_principal(DEPLOYMENT, ONE) is None


async def test_a_lookup_under_way_during_a_revocation_is_not_cached(site):
    token = await deploy(site, direct=True)
    authenticator = site.auth.authenticator
    load = authenticator._load_deployment_token

    async def slow(digest):
        found = await load(digest)
        async with site.db.write() as tx:
            await site.auth.machines.revoke_deployment_token(tx, DEPLOYMENT)
        return found

    authenticator._load_deployment_token = slow
    assert await authenticator.by_token(token)  # read before the revocation: unavoidable
    authenticator._load_deployment_token = load
    assert await authenticator.by_token(token) is None


async def test_a_rolled_back_revocation_revokes_nothing(site):
    token = await deploy(site, direct=True)
    with pytest.raises(RuntimeError):
        async with site.db.write() as tx:
            await site.auth.machines.revoke_deployment_token(tx, DEPLOYMENT)
            raise RuntimeError
    assert await site.auth.authenticator.by_token(token)


async def test_the_cache_answers_without_the_database(site):
    token = await deploy(site, direct=True)
    authenticator = site.auth.authenticator
    assert await authenticator.by_token(token)
    authenticator._db = None
    assert await authenticator.by_token(token)
    await site.clock.advance(3)
    with pytest.raises(AttributeError):
        await authenticator.by_token(token)
