"""When a device is silent, and when it is dead."""

import pytest

from haechi.domains.agents.presence import Limits, judge

LIMITS = Limits(silent_after_s=3, dead_after_s=8)


@pytest.mark.parametrize(
    ("last_word_s", "neighbours", "expected"),
    [
        (None, None, ("new", "never_called")),
        (100.0, None, ("ok", "connected")),
        (98.0, None, ("ok", "connected")),
        (97.0, None, ("silent", "no_word")),
        (97.0, True, ("silent", "no_word")),
        (97.0, False, ("dead", "neighbours_agree")),
        (98.5, False, ("ok", "connected")),
        (92.0, True, ("dead", "no_word")),
        (92.0, None, ("dead", "no_word")),
    ],
)
def test_judge(last_word_s, neighbours, expected):
    assert judge(last_word_s, 100.0, LIMITS, neighbours) == expected
