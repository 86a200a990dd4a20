"""Whatever is sent: a reply of the old form, never a 500, never a half-done change."""

import json

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from haechi.interop.catalogue import describe
from haechi.interop.codes import CODES

from .conftest import interop_world

ENDPOINTS = describe()
POSTS = sorted({one.path for one in ENDPOINTS if one.method == "POST"})
GETS = sorted({one.path for one in ENDPOINTS if one.method == "GET"})
NAMES = sorted({name for one in ENDPOINTS for field in one.fields for name in field.names})
ALLOWED_STATUS = {200, 403, 404, 503}

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=30)
    | st.sampled_from(
        [
            "ni01",
            "\ud800",
            "\0",
            "' OR 1=1 --",
            "../../etc/passwd",
            "a" * 3000,
            "%s%n",
            "rtsp://x",
            "192.0.2.5",
            "2025-11-20 14:14:05",
            "01",
            "x.zip",
            "정문",
        ]
    )
)
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*NAMES, "x"]), inner, max_size=4)
    ),
    max_leaves=10,
)
objects = st.dictionaries(st.sampled_from([*NAMES, "x"]), anything, max_size=8)
relaxed = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def check(answer):
    assert answer.status_code in ALLOWED_STATUS, answer.text
    kind = answer.headers["content-type"]
    if "json" not in kind:
        assert answer.text in {"usage", "접속 완료"} or "zip" in kind
        return
    reply = answer.json()
    assert reply["code"] in CODES or reply == {"code": 200, "msg": "GOOD"}
    assert "내부 오류" not in answer.text, answer.text


@pytest.fixture
async def fuzzed(tmp_path):
    async with interop_world(tmp_path) as world:
        await world.add_device("edge-1", "192.0.2.21", id="ni01", url="rtsp://192.0.2.61/a")
        yield world


@relaxed
@given(st.sampled_from(POSTS), objects, st.booleans())
async def test_any_object(fuzzed, path, body, twice):
    content = json.dumps(body)
    if twice:
        content = json.dumps(content)
    check(await fuzzed.client.post(path, content=content.encode("utf-8", "surrogatepass")))


@relaxed
@given(st.sampled_from(POSTS), st.binary(max_size=200))
async def test_any_bytes(fuzzed, path, body):
    check(await fuzzed.client.post(path, content=body))


@relaxed
@given(st.sampled_from(GETS), st.dictionaries(st.sampled_from(NAMES), st.text(max_size=70)))
async def test_any_query(fuzzed, path, query):
    clean = {name: text.encode("utf-8", "replace").decode() for name, text in query.items()}
    check(await fuzzed.client.get(path, params=clean))


@relaxed
@given(
    st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"]),
    st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), max_size=30),
)
async def test_any_path_and_method(fuzzed, method, path):
    try:
        answer = await fuzzed.client.request(method, "/" + path)
    except httpx2.InvalidURL:
        return
    assert answer.status_code in ALLOWED_STATUS


@relaxed
@given(
    st.binary(max_size=300), st.sampled_from(["", "; boundary=x", "; boundary=", ';boundary=""'])
)
async def test_any_form(fuzzed, body, boundary):
    headers = {"Content-Type": f"multipart/form-data{boundary}"}
    check(await fuzzed.client.post("/upload_edgeAi", content=body, headers=headers))


@pytest.mark.parametrize(
    ("body", "codes"),
    [
        (b"", {"0021"}),
        (b"no json", {"0021"}),
        (b"null", {"0021"}),
        (b"{}", {"0015"}),
        (b"[" * 100_000, {"0021"}),
        (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, {"0021"}),
        (b'{"name": "' + b"x" * 10 * 1024 * 1024 + b'"}', {"0016"}),
        ('{"name": "정문", "ip": "192.0.2.5"}'.encode("euc-kr"), {"0021"}),
        (b'{"name": null, "ip": null}', {"0015"}),
    ],
    ids=["empty", "text", "null", "missing", "deep", "deeper", "10 MB", "EUC-KR", "nulls"],
)
async def test_known_bad_bodies_everywhere(fuzzed, body, codes):
    for path in POSTS:
        answer = await fuzzed.client.post(path, content=body)
        assert answer.status_code == 200, path
        assert answer.json()["code"] in codes, path


async def test_wrong_methods_everywhere(fuzzed):
    for path in GETS:
        for method in ("PUT", "DELETE", "PATCH"):
            answer = await fuzzed.client.request(method, path)
            assert (answer.status_code, answer.json()["code"]) == (200, "0013"), path
