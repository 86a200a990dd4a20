"""Which rows of a body are refused, with what index; the rest is kept."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haechi.domains.results.model import BadResults, TooManyRows
from haechi.domains.results.queries import objects_of
from haechi.domains.results.rows import captured_ms, claims_of, decode, encode_objects

GOOD = {"class": "rain", "class_prob": 0.7}


def box(*values):
    return {"objects": [{"box": list(values), "class": "person", "class_prob": 0.9}]}


@pytest.mark.parametrize(
    "bad",
    [
        '{"class": "rain", "class_prob": 1.7}',
        '{"class": "rain", "class_prob": NaN}',
        '{"class": "rain", "class_prob": Infinity}',
        '{"class": "rain"}',
        '{"took_ms": NaN}',
        '{"attributes": {"a": NaN}}',
        json.dumps(box(0.9, 0.5, 0.2, 0.1)),
        json.dumps(box(-0.02, 0.5, 0.2, 0.1)),
        json.dumps(box(0, 0, -0.1, 0.1)),
        '{"objects": [{"box": [0, NaN, 0.1, 0.1], "class": "a", "class_prob": 0.5}]}',
        '{"objects": [{"box": [0, 0, 0.1], "class": "a", "class_prob": 0.5}]}',
        json.dumps({"attributes": {"a": "x" * 5000}}),
        json.dumps({"claimed": {"a": "x" * 5000}}),
        '{"attributes": {"nested": {"a": 1}}}',
        '{"seq": -1}',
        '{"seq": "1"}',
        '"text"',
        "null",
        "17",
    ],
)
def test_a_bad_row_is_named_and_the_rest_kept(bad):
    body = f"[{json.dumps(GOOD)}, {bad}, {json.dumps(GOOD)}]".encode()
    good, refused = decode(body)
    assert [row.class_ for row in good] == ["rain", "rain"]
    assert [row.index for row in refused] == [1]
    assert refused[0].problem


def test_one_percent_outside_is_tolerated():
    good, refused = decode(json.dumps([box(-0.01, 0.5, 0.2, 0.51)]).encode())
    assert (len(good), refused) == (1, [])


def test_a_single_object_and_an_empty_one_are_results():
    assert len(decode(json.dumps(GOOD).encode())[0]) == 1
    assert len(decode(b" {} ")[0]) == 1
    assert decode(b"[]") == ([], [])


@pytest.mark.parametrize("body", [b"", b"not json", b"[{]", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_json_is_said_to_be_unreadable(body):
    with pytest.raises(BadResults):
        decode(body)


def test_more_than_a_thousand_rows_are_too_many():
    with pytest.raises(TooManyRows):
        decode(json.dumps([{}] * 1001).encode())
    with pytest.raises(TooManyRows):
        decode(json.dumps([{"seq": "x"}] * 1001).encode())


def test_identities_in_the_body_are_claims():
    (row,), _ = decode(b'{"device_id": 7, "image_digest": "sha256:x", "claimed": {"eid": "1"}}')
    assert claims_of(row) == {"eid": "1", "device_id": "7", "image_digest": "sha256:x"}


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-01T00:00:01.500Z", 1500),
        ("2026-01-01T09:00:00+09:00", 1_767_225_600_000),
        ("2026-01-01T09:00:00", None),
        ("yesterday", None),
        (None, None),
        ("0001-01-01T00:00:00+14:00", -62_135_647_200_000),
    ],
)
def test_times(text, ms):
    if text and text.startswith("0001"):
        assert captured_ms(text) is None or captured_ms(text) < 0
    else:
        assert captured_ms(text) == ms


@given(st.binary(max_size=300))
def test_no_bytes_make_it_stumble(body):
    with suppress(BadResults, TooManyRows):
        decode(body)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(["class", "class_prob", "objects", "box", "seq", "attributes"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_no_json_makes_it_stumble(document):
    body = json.dumps(document).encode()
    try:
        good, refused = decode(body)
    except (BadResults, TooManyRows):
        return
    count = len(document) if isinstance(document, list) else 1
    places = {row.index for row in refused}
    assert places <= set(range(count))
    assert len(good) + len(places) == len(good) + len(refused) == count


def test_objects_survive_their_compact_form():
    (row,), _ = decode(
        json.dumps(
            {
                "objects": [
                    {"box": [0.1, 0.2, 0.3, 0.4], "class": "사람", "class_prob": 0.5, "track": "t"},
                    {"box": [0, 0, 1, 1], "class": "car", "class_prob": 1, "track": 7},
                    {"box": [0, 0, 1, 1], "class": "car", "class_prob": 0},
                ]
            }
        ).encode()
    )
    seen = objects_of(encode_objects(row.objects))
    assert [(o.box, o.class_, o.class_prob, o.track) for o in seen] == [
        ((0.1, 0.2, 0.3, 0.4), "사람", 0.5, "t"),
        ((0, 0, 1, 1), "car", 1.0, 7),
        ((0, 0, 1, 1), "car", 0.0, None),
    ]
    assert encode_objects([]) is None
