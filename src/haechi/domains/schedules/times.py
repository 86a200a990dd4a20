"""When a schedule is due and when maintenance hours are open: pure functions of time.

Cron has five fields; two texts of the past are understood as well (`@daily` …) because operators
know them from crontabs. Local times follow the zone's rules: an hour that a clock change skips is
caught at its end (cronsim's rule, Debian's cron).
"""

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from haechi.domains.schedules.model import DAYS, BadCron, BadHours, Hours

NICKNAMES: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * sun",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
}


def check_cron(cron: str) -> str:
    """The expression as it is kept. Raises BadCron."""
    text = " ".join(cron.split())
    fields = NICKNAMES.get(text.lower(), text)
    if len(fields.split()) != 5:
        raise BadCron(cron=cron, reason="five fields are needed")
    try:
        CronSim(fields, datetime(2026, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        raise BadCron(cron=cron, reason=str(error)) from error
    return fields


def next_due(cron: str, timezone: str, after: datetime) -> datetime | None:
    """The first moment after `after`, UTC; None where none comes (31 February)."""
    try:
        return next(CronSim(cron, after.astimezone(ZoneInfo(timezone)))).astimezone(UTC)
    except StopIteration:
        return None


def last_due(cron: str, timezone: str, start: datetime, until: datetime) -> datetime:
    """The last moment from `start`, itself one, to `until`: what was missed before counts once."""
    moments = CronSim(
        cron, until.astimezone(ZoneInfo(timezone)) + timedelta(seconds=1), reverse=True
    )
    found = next(moments, None)
    return start if found is None else max(start, found.astimezone(UTC))


def check_hours(hours: Hours) -> Hours:
    """Raises BadHours."""
    if not hours.days or _time(hours, hours.start) == _time(hours, hours.end):
        raise BadHours(start=hours.start, end=hours.end)
    return Hours([day for day in DAYS if day in hours.days], hours.start, hours.end)


def opens_at(hours: Sequence[Hours], timezone: str, now: datetime) -> datetime | None:
    """`now` where the hours are open (or there are none), else when they open next."""
    if not hours:
        return now
    zone = ZoneInfo(timezone)
    today = now.astimezone(zone).date()
    starts = []
    for offset in range(-1, 8):  # yesterday's hours may reach over midnight
        day = today + timedelta(days=offset)
        for one in hours:
            if DAYS[day.weekday()] not in one.days:
                continue
            start, end = _time(one, one.start), _time(one, one.end)
            last = day if end > start else day + timedelta(days=1)
            begins = datetime.combine(day, start, zone).astimezone(UTC)
            ends = datetime.combine(last, end, zone).astimezone(UTC)
            if begins <= now < ends:
                return now
            if begins > now:
                starts.append(begins)
    return min(starts, default=None)


def _time(hours: Hours, text: str) -> time:
    try:
        return datetime.strptime(text, "%H:%M").time()  # noqa: DTZ007 - a time of day, no moment
    except ValueError as error:
        raise BadHours(start=hours.start, end=hours.end) from error
