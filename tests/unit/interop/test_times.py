"""The clock forms of old programs."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haechi.interop import times

SEOUL = times.zone("Asia/Seoul")
NOON = datetime(2025, 11, 20, 5, 14, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("202511201414", NOON),
        ("20251120141405", NOON + timedelta(seconds=5)),
        ("2025-11-20T14:14:00", NOON),
        ("2025-11-20 14:14:00", NOON),
        (" 2025-11-20 14:14 ", NOON),
        ("2025-11-20T05:14:00Z", NOON),
        ("2025-11-20T06:14:00.250+01:00", NOON + timedelta(milliseconds=250)),
        ("20251320", None),
        ("202513201414", None),
        ("2025112014", None),
        ("soon", None),
        ("", None),
        ("٢٠٢٥١١٢٠١٤١٤", None),
        ("0001-01-01T00:00:00+14:00", None),
        ("9999-12-31T23:59:59-14:00", None),
    ],
)
def test_forms(text, at):
    assert times.parse(text, SEOUL) == at


def test_a_bad_zone_is_the_default():
    assert times.zone("Nowhere/At all").key == "Asia/Seoul"
    assert times.zone("../../etc/passwd").key == "Asia/Seoul"


def test_too_early_and_too_far_ahead():
    now = NOON
    assert times.plausible(now - timedelta(days=365), now)
    assert times.plausible(now + timedelta(hours=24), now)
    assert not times.plausible(now + timedelta(hours=24, seconds=1), now)
    assert not times.plausible(datetime(2019, 12, 31, tzinfo=UTC), now)


@given(st.text(max_size=50))
def test_any_text_is_a_time_or_not(text):
    at = times.parse(text, SEOUL)
    assert at is None or at.tzinfo is UTC
