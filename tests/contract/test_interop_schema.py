"""The historic interface against its own OpenAPI document, by schemathesis; its pages are current."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings

from haechi.interop.catalogue import describe
from haechi.interop.codes import CODES
from haechi.interop.openapi import document
from haechi.testing.processes import ServerProcess

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
ROOT = Path(__file__).parents[2]
schema = schemathesis.openapi.from_dict(document(describe()))


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = ServerProcess(
        tmp_path_factory.mktemp("interop-schema"),
        interop__listen=f'["127.0.0.1:{port}"]',
        interop__allow='["127.0.0.0/8"]',
        interop__rate_per_s=100_000,
    )
    server.start()
    try:
        yield f"http://127.0.0.1:{port}"
        assert "Traceback" not in server.log
    finally:
        server.kill()


@schema.parametrize()
@settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
def test_every_call_that_fits_or_breaks_the_document(case, url):
    with requests.Session() as session:
        session.trust_env = False
        answer = case.call(base_url=url, session=session)
    assert answer.status_code in {200, 404, 503}, answer.text
    kind = answer.headers["content-type"][0]
    if "json" not in kind:
        return
    reply = json.loads(answer.content)
    assert reply["code"] in CODES or reply["code"] == 200
    assert "내부 오류" not in answer.text


def test_the_pages_are_current():
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "interop_docs.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
