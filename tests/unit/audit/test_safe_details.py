"""No secret reaches the audit log, however it is handed over."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from haechi.core.access import Role
from haechi.core.secrets import Secret
from haechi.domains.audit.model import MASK, safe_details


def test_secret_values_are_masked_wherever_they_are():
    details = safe_details(
        {"login": Secret("hunter2"), "list": [Secret("hunter2")], "deep": {"x": {"y": Secret("s")}}}
    )
    assert details == {"login": MASK, "list": [MASK], "deep": {"x": {"y": MASK}}}


def test_plain_values_under_secret_names_are_masked():
    details = safe_details(
        {"password": "hunter2", "camera": {"Api_Key": "abc", "token": "t", "private_pem": "-"}}
    )
    assert details == {
        "password": MASK,
        "camera": {"Api_Key": MASK, "token": MASK, "private_pem": MASK},
    }


def test_a_login_inside_an_address_is_masked():
    details = safe_details({"url": "rtsp://root:pa%40ss@192.0.2.7/axis-media/media.amp"})
    assert details == {"url": f"rtsp://{MASK}@192.0.2.7/axis-media/media.amp"}


def test_ids_numbers_times_and_enums_stay_readable():
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    details = safe_details(
        {"token_id": "tok-x", "count": 3, "at": at, "role": Role.ADMIN, "n": None}
    )
    assert details == {
        "token_id": "tok-x",
        "count": 3,
        "at": "2026-01-02T03:04:05.000Z",
        "role": 3,
        "n": None,
    }


@given(
    st.recursive(
        st.just(Secret("TOP-SECRET")),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=20,
    )
)
def test_no_shape_lets_a_secret_through(value):
    assert "TOP-SECRET" not in repr(safe_details({"value": value}))
