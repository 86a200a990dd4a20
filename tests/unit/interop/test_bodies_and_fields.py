"""Bodies and fields: whatever comes, it is read or refused with the right code."""

import asyncio
import json
import math
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haechi.interop import bodies
from haechi.interop import fields as f
from haechi.interop.bodies import ClientGone
from haechi.interop.catalogue import describe
from haechi.interop.codes import CODES, Refusal
from haechi.interop.fields import Field, read_fields

TEXT = None


def code_of(run):
    with pytest.raises(Refusal) as caught:
        run()
    return caught.value.code


def outcome_of(run):
    """(what it gave, None) or (None, the code it refused with)."""
    try:
        return run(), None
    except Refusal as refusal:
        return None, refusal.code


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "0021"),
        (b"  \r\n", "0021"),
        (b"\0\0", "0021"),
        (b"hello", "0021"),
        (b"[]", "0021"),
        (b"null", "0021"),
        (b'"{}"', "0021"),
        ("{“name”: 1}".encode(), "0021"),
        ('{"name": "정문"}'.encode("euc-kr"), "0021"),
        ('{"name": "정문"}'.encode("utf-16"), "0021"),
        (b'{"a": 1', "0021"),
        (b"[" * 200_000, "0021"),
        (b'{"a":' * 100_000, "0021"),
        (b"\xff\xfe", "0021"),
    ],
)
def test_what_is_no_object_is_refused(body, code):
    assert code_of(lambda: bodies.parse(body)) == code


def test_a_body_may_begin_with_a_byte_order_mark_and_be_encoded_twice():
    assert bodies.parse(b"\xef\xbb\xbf" + b'{"a": 1}') == ({"a": 1}, False)
    twice = json.dumps(json.dumps({"cpu": 1})).encode()
    assert bodies.parse(twice, twice_allowed=True) == ({"cpu": 1}, True)
    assert code_of(lambda: bodies.parse(b'"not json"', twice_allowed=True)) == "0010"
    assert code_of(lambda: bodies.parse(b'"[1]"', twice_allowed=True)) == "0021"


def test_numbers_keep_the_text_they_were_written_in():
    body, _ = bodies.parse(b'{"version": 1.10, "big": ' + b"9" * 5000 + b"}")
    field = Field(("version",), f.VERSION, TEXT)
    assert read_fields([field], body, strict=False) == {"version": "1.10"}
    assert math.isnan(body["big"])
    assert (
        code_of(lambda: read_fields([Field(("big",), f.PERCENT, TEXT)], body, strict=False))
        == "0010"
    )


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data):
    found, code = outcome_of(lambda: bodies.parse(data, twice_allowed=True))
    assert code in {"0010", "0021"} if found is None else isinstance(found[0], dict)


@given(st.binary(max_size=200))
def test_any_query_is_read_or_refused(data):
    found, code = outcome_of(lambda: bodies.parse_query(data))
    assert code == "0010" if found is None else isinstance(found, dict)


_ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=40)
    | st.text(alphabet="\ud800\udfff\0\n", max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=10) | st.just("wid"), inner, max_size=4)
    ),
    max_leaves=12,
)
_ENDPOINTS = [one for one in describe() if one.fields]


@given(st.sampled_from(_ENDPOINTS), st.data(), st.booleans())
def test_any_values_are_checked_with_a_known_code(endpoint, data, strict):
    names = [name for field in endpoint.fields for name in field.names]
    body = data.draw(st.dictionaries(st.sampled_from([*names, "other"]), _ANY, max_size=len(names)))
    values, code = outcome_of(lambda: read_fields(endpoint.fields, body, strict=strict))
    if values is None:
        assert code in CODES
        assert code in {"0010", "0013", "0015", "0016", "0017", "0018", "0019"}
    else:
        assert set(values) <= {field.name for field in endpoint.fields}


def test_the_order_of_checks_is_the_contracts():
    """One body with every fault; each mended, the next is told."""
    fields = [
        Field(("name",), f.NAME, TEXT, required=True),
        Field(("ip",), f.ADDRESS, TEXT, required=True),
        Field(("port",), f.PORT, TEXT),
        Field(("description",), f.TEXT, TEXT),
        Field(("url",), f.CAMERA_URL, TEXT),
    ]
    body = {"name": "", "odd": 1, "port": "x", "description": "d" * 2001, "ip": "999.9.9.9"}
    seen = []
    for mend in ({"name": "n"}, {"odd": None}, {"port": 1}, {"description": ""}, {"ip": "::1"}):
        seen.append(code_of(partial(read_fields, fields, body, strict=True)))
        body |= mend
        body = {key: value for key, value in body.items() if key != "odd" or value}
    assert seen == ["0015", "0017", "0010", "0016", "0019"]
    assert read_fields(fields, body, strict=True) == {"name": "n", "ip": "::1", "port": 1}
    body["url"] = "http://x"
    assert code_of(lambda: read_fields(fields, body, strict=True)) == "0013"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(3, "03"), ("3", "03"), ("03", "03"), (3.0, "03"), ("맑음", "맑음"), (12, "12")],
)
def test_classes_are_padded_to_two_digits(value, shown):
    field = Field(("class",), f.ANY_CLASS, TEXT)
    assert read_fields([field], {"class": value}, strict=False) == {"class": shown}


def body_of(*parts, gone=False):
    messages = [
        {"type": "http.request", "body": part, "more_body": index + 1 < len(parts) or gone}
        for index, part in enumerate(parts)
    ]
    if gone:
        messages.append({"type": "http.disconnect"})

    async def receive():
        return messages.pop(0)

    return receive


async def test_bodies_are_bounded_read_in_parts_and_may_break_off():
    assert await bodies.read(body_of(b"ab", b"c"), None) == b"abc"
    for receive, declared in (
        (body_of(b"x" * bodies.MAX_BODY_BYTES, b"x"), None),
        (body_of(b"small"), bodies.MAX_BODY_BYTES + 1),
    ):
        with pytest.raises(Refusal) as caught:
            await bodies.read(receive, declared)
        assert caught.value.code == "0016"
    with pytest.raises(ClientGone):
        await bodies.read(body_of(b"half", gone=True), None)
    await asyncio.sleep(0)
