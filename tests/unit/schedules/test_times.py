"""When something is due, and when maintenance hours are open."""

from datetime import UTC, datetime, timedelta

import pytest

from haechi.domains.schedules.model import BadCron, BadHours, Hours
from haechi.domains.schedules.times import check_cron, check_hours, last_due, next_due, opens_at

SEOUL = "Asia/Seoul"
MONDAY_NOON = datetime(2026, 11, 30, 3, 0, tzinfo=UTC)  # 12:00 in Seoul
NIGHT = Hours(["mon", "tue", "wed", "thu", "fri"], "22:00", "05:00")


def seoul(day, hour, minute=0):
    return datetime(2026, 11, day, hour, minute, tzinfo=UTC) - timedelta(hours=9)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("30 3 * * mon-fri", "30 3 * * mon-fri"),
        ("  */5   *  * * * ", "*/5 * * * *"),
        ("@daily", "0 0 * * *"),
        ("@Weekly", "0 0 * * sun"),
    ],
)
def test_cron_is_kept_in_five_fields(given, kept):
    assert check_cron(given) == kept


@pytest.mark.parametrize(
    "given", ["", "* * * *", "0 0 * * * *", "61 * * * *", "a b c d e", "@often", "0 0 31 2 *"]
)
def test_a_bad_cron_is_refused_with_its_text(given):
    with pytest.raises(BadCron) as refused:
        check_cron(given)
    assert refused.value.data["cron"] == given
    assert refused.value.data["reason"]


def test_cron_is_read_in_the_sites_zone():
    assert next_due("30 3 * * *", SEOUL, MONDAY_NOON) == datetime(2026, 11, 30, 18, 30, tzinfo=UTC)
    assert next_due("30 3 * * *", "UTC", MONDAY_NOON) == datetime(2026, 11, 30, 3, 30, tzinfo=UTC)


def test_the_next_moment_is_after_not_at():
    assert next_due("0 12 * * *", SEOUL, MONDAY_NOON) == MONDAY_NOON + timedelta(days=1)


def test_the_hour_that_summer_time_skips_is_caught_at_its_end():
    before = datetime(2027, 3, 28, 0, 0, tzinfo=UTC)  # Berlin goes from 02:00 to 03:00 at 01:00 UTC
    assert next_due("30 2 * * *", "Europe/Berlin", before) == datetime(2027, 3, 28, 1, tzinfo=UTC)


def test_of_several_missed_moments_the_last_counts():
    start = MONDAY_NOON
    assert last_due("0 * * * *", SEOUL, start, start + timedelta(hours=5, minutes=20)) == (
        start + timedelta(hours=5)
    )
    assert last_due("0 12 * * *", SEOUL, start, start + timedelta(minutes=1)) == start
    assert last_due("0 12 * * *", SEOUL, start, start) == start


def test_no_hours_are_open_at_any_time():
    assert opens_at([], SEOUL, MONDAY_NOON) == MONDAY_NOON


@pytest.mark.parametrize(
    ("now", "opens"),
    [
        (seoul(30, 12), seoul(30, 22)),
        (seoul(30, 22), seoul(30, 22)),
        (seoul(28, 3), seoul(28, 3)),  # Saturday morning still belongs to Friday's night
        (seoul(28, 5), seoul(30, 22)),
        (seoul(29, 23), seoul(30, 22)),  # Sunday
        (seoul(30, 4, 59), seoul(30, 22)),  # Sunday's night is none
    ],
)
def test_hours_reach_over_midnight(now, opens):
    assert opens_at([NIGHT], SEOUL, now) == opens


def test_the_soonest_of_several_hours():
    noon = Hours(["mon"], "13:00", "14:00")
    assert opens_at([NIGHT, noon], SEOUL, seoul(30, 12)) == seoul(30, 13)


def test_hours_that_are_none_are_refused():
    for days, start, end in (
        ([], "01:00", "02:00"),
        (["mon"], "01:00", "01:00"),
        (["mon"], "29:00", "02:00"),
    ):
        with pytest.raises(BadHours):
            check_hours(Hours(days, start, end))


def test_days_are_kept_in_their_order_once():
    assert check_hours(Hours(["sun", "mon", "sun"], "01:00", "02:00")).days == ["mon", "sun"]
