"""Maintenance hours as they are typed."""

import click
import pytest

from haechi.cli.maintenance import _Hours


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("mon 02:00-05:00", ["mon"]),
        ("Mon-Wed 02:00-05:00", ["mon", "tue", "wed"]),
        ("fri-mon,wed 02:00-05:00", ["fri", "sat", "sun", "mon", "wed"]),
    ],
)
def test_days(text, days):
    assert _Hours().convert(text, None, None) == {"days": days, "start": "02:00", "end": "05:00"}


@pytest.mark.parametrize("text", ["", "mon", "day 02:00-05:00", "mon-day 02:00-05:00", "mon 2-5"])
def test_what_is_none_is_refused_with_an_example(text):
    with pytest.raises(click.BadParameter, match="mon-fri"):
        _Hours().convert(text, None, None)
