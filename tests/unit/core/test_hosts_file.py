"""Our line of a hosts file comes and goes; nobody else's is touched."""

import pytest

from haechi.core.hosts_file import with_name

NAME = "api.test"


@pytest.mark.parametrize(
    ("before", "address", "after"),
    [
        ("", "127.0.0.1", "127.0.0.1 api.test # haechi\n"),
        ("127.0.0.1 localhost", None, "127.0.0.1 localhost"),
        ("127.0.0.1 localhost", "10.0.0.1", "10.0.0.1 api.test # haechi\n127.0.0.1 localhost\n"),
        # The first line that names it counts: ours stands before another's.
        (
            "::1 ip6\n\n# site\n10.0.0.1 api.test other # theirs\n",
            "10.0.0.9",
            "10.0.0.9 api.test # haechi\n::1 ip6\n\n# site\n10.0.0.1 api.test other # theirs\n",
        ),
        (
            "::1 ip6\n10.0.0.2 api.test # haechi\n",
            "10.0.0.1",
            "10.0.0.1 api.test # haechi\n::1 ip6\n",
        ),
        ("127.0.0.1 api.test # haechi\n::1 ip6\n", None, "::1 ip6\n"),
        # As earlier versions wrote it.
        ("10.0.0.2\tapi.test\t# haechi registry\n", "10.0.0.1", "10.0.0.1 api.test # haechi\n"),
        ("10.0.0.2\tapi.test\t# haechi registry\n", None, ""),
        # Not ours.
        ("10.0.0.1 api.test\n", None, "10.0.0.1 api.test\n"),
        ("# 127.0.0.1 api.test\n", None, "# 127.0.0.1 api.test\n"),
        ("10.0.0.1 xapi.test api.test.org\n", None, "10.0.0.1 xapi.test api.test.org\n"),
        ("10.0.0.1 other # haechi\n", None, "10.0.0.1 other # haechi\n"),
    ],
)
def test_a_name_leads_there_or_nowhere(before, address, after):
    made = with_name(before, NAME, address)
    assert made == after
    assert with_name(made, NAME, address) == made


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1 localhost\n10.0.0.1\tapi.test\n",  # by hand
        "10.0.0.1\tapi.test\t# haechi registry\n127.0.0.1 localhost\n",
        "127.0.0.1 localhost\n10.0.0.1 api.test # haechi\n",
    ],
)
def test_what_leads_there_already_is_left_as_it_is(text):
    assert with_name(text, NAME, "10.0.0.1") is text


def test_ours_takes_itself_back_to_the_letter():
    text = "127.0.0.1\tlocalhost\n10.0.0.1 api.test # theirs\n"
    assert with_name(with_name(text, NAME, "10.0.0.9"), NAME, None) == text
