"""The whole API against its own OpenAPI document: hostile input by the hundred, never a 500.

schemathesis makes requests that fit the document and requests that break it. Whatever comes back
must be an answer that the document knows, and every refusal the one problem shape. Bounded: a few
examples for each of the operations, the same ones in every run.
"""

import base64
import json
import re
import zlib
from types import SimpleNamespace

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from haechi.app import describe_api
from haechi.testing import packages
from haechi.testing.processes import ServerProcess

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

EXAMPLES = 8
PROBLEM = ("type", "title", "status", "code", "detail", "remedy", "data", "request_id")
ENDLESS = {"/api/v1/stream"}
"""An event stream: it is tested where streams are."""

schemathesis.serializer.alias("application/zip", "application/octet-stream")
schema = schemathesis.openapi.from_dict(describe_api()).exclude(path=sorted(ENDLESS))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A real server with one of each kind, so that more than 404 is met."""
    server = ServerProcess(tmp_path_factory.mktemp("schema"))
    server.start()
    try:
        with server.client() as client, requests.Session() as session:
            seeds = furnish(client)
            secret = {"name": "schema", "role": "admin"}
            token = client.post("/tokens", json=secret).raise_for_status().json()["secret"]
            session.trust_env = False
            session.headers["Authorization"] = f"Bearer {token}"
            yield SimpleNamespace(url=server.url, session=session, seeds=seeds)
        assert "Traceback" not in server.log
    finally:
        server.kill()


def furnish(client):
    def post(path, body):
        return client.post(path, json=body).raise_for_status().json()["id"]

    device = post("/devices", {"name": "one"})
    cameras = [
        post("/cameras", {"name": f"c{n}", "device_id": device, "url": "rtsp://127.0.0.1/x"})
        for n in range(2)
    ]
    version = (
        client.post(
            "/packages/upload",
            params={"filename": "sleeper.zip", "version": "1"},
            content=packages.sleeping(),
        )
        .raise_for_status()
        .json()
    )
    return {
        "device_id": device,
        "camera_id": cameras[0],
        "link_id": post("/links", {"camera_a": cameras[0], "camera_b": cameras[1]}),
        "group_id": post("/groups", {"name": "all", "device_ids": [device]}),
        "package_id": version["package_id"],
        "version": "1",
        # Nobody has these: their lists are empty, or 404.
        "cluster_id": "clu-" + "a" * 16,
        "schedule_id": "sch-" + "a" * 16,
    }


def check(answer):
    """No bug; a refusal says what is wrong and what to do."""
    assert answer.status_code < 500 or answer.status_code in {502, 503, 504, 507}, answer.text
    if answer.status_code >= 400:
        problem = answer.json()
        assert set(PROBLEM) <= problem.keys()
        assert re.fullmatch(r"[a-z_]+\.[a-z0-9_]+", problem["code"])
        assert problem["detail"] and problem["remedy"]
        assert "Traceback" not in answer.text


def queried(kind):
    """Paths of GET with a query parameter of that kind, other parameters as seeded."""
    document = describe_api()
    for path, methods in document["paths"].items():
        for parameter in methods.get("get", {}).get("parameters", ()):
            if parameter["in"] == "query" and kind(parameter):
                yield path, parameter["name"]


def is_moment(parameter):
    return "date-time" in json.dumps(parameter["schema"])


@pytest.mark.parametrize(
    ("path", "name"), list(queried(lambda parameter: parameter["name"] == "cursor"))
)
def test_forged_cursors_are_refused_or_lead_nowhere(path, name, site):
    for key in (["x"], ["x", "y"], ["2026-01-01", "y"], [{}], [[], None], [True], [10**30], [-1]):
        forged = base64.urlsafe_b64encode(json.dumps(key).encode()).decode()
        address = site.url + path.format_map(site.seeds)
        check(site.session.get(address, params={name: forged}, timeout=120))


@pytest.mark.parametrize(("path", "name"), list(queried(is_moment)))
def test_moments_far_away_are_no_fault(path, name, site):
    for moment in ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999Z", "1e400", "2026-01-01T00:00"):
        address = site.url + path.format_map(site.seeds)
        check(site.session.get(address, params={name: moment}, timeout=120))


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_what_the_document_says(case, site):
    given = case.path_parameters or {}
    if case.method != "DELETE" and zlib.crc32(repr((case.query, case.body)).encode()) % 4:
        given |= {name: site.seeds[name] for name in given.keys() & site.seeds.keys()}
    answer = case.call(base_url=site.url, session=site.session, timeout=120)
    check(answer)
    case.validate_response(
        answer,
        checks=[status_code_conformance, content_type_conformance, response_schema_conformance],
    )
