"""What is known of numbers, in memory and in the file, is what was said."""

from __future__ import annotations

from itertools import pairwise

import apsw
from hypothesis import given
from hypothesis import strategies as st

from haechi.domains.results.seen import Seen

BATCHES = st.lists(
    st.tuples(st.lists(st.integers(0, 30), min_size=1, max_size=8), st.booleans()), max_size=5
)


def file() -> apsw.Connection:
    connection = apsw.Connection(":memory:")
    connection.execute(
        "CREATE TABLE result_seen (instance INTEGER, low INTEGER, high INTEGER,"
        " PRIMARY KEY (instance, low)) STRICT, WITHOUT ROWID"
    )
    return connection


@given(BATCHES)
def test_a_number_is_new_once_whether_or_not_the_server_started_again(batches):
    connection, seen = file(), Seen()
    said: set[int] = set()
    for numbers, start_again in batches:
        for number in numbers:
            assert seen.add(connection, 7, number) == (number not in said)
            said.add(number)
        seen.save(connection)
        if start_again:
            seen.forget()
    kept = connection.execute("SELECT low, high FROM result_seen ORDER BY low").fetchall()
    assert {number for low, high in kept for number in range(low, high + 1)} == said
    assert all(before[1] + 1 < after[0] for before, after in pairwise(kept))


def test_several_gaps_in_one_batch_are_all_kept():
    connection, seen = file(), Seen()
    for number in (1, 2, 5, 6, 9):
        assert seen.add(connection, 7, number)
    seen.save(connection)
    seen.forget()
    assert not any(seen.add(connection, 7, number) for number in (1, 2, 5, 6, 9))
