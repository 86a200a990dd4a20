"""Guessing passwords is slowed down; nobody is locked out of the place he works at."""

import pytest

from haechi.domains.auth.errors import TooManyLogIns
from haechi.domains.auth.throttle import WINDOW_S, Throttle
from haechi.testing.clock import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def throttle(clock):
    return Throttle(clock, max_failures=3)


def fail(throttle, name, address, times=1):
    for _ in range(times):
        throttle.begin(name, address)


def test_one_name_from_many_addresses(throttle):
    for n in range(3):
        fail(throttle, "kim", f"10.0.0.{n}")
    with pytest.raises(TooManyLogIns) as refused:
        throttle.begin("kim", "10.0.0.9")
    assert 0 < refused.value.retry_after_s <= WINDOW_S
    throttle.begin("lee", "10.0.0.9")


def test_many_names_from_one_address(throttle):
    for n in range(3):
        fail(throttle, f"user{n}", "10.0.0.1")
    with pytest.raises(TooManyLogIns):
        throttle.begin("kim", "10.0.0.1")


async def test_the_window_passes(throttle, clock):
    fail(throttle, "kim", "10.0.0.1", 3)
    await clock.advance(WINDOW_S + 1)
    throttle.begin("kim", "10.0.0.1")


def test_attempts_at_the_same_moment_count_before_their_passwords_are_checked(throttle):
    begun = 0
    for _ in range(100):
        try:
            throttle.begin("kim", "10.0.0.1")
        except TooManyLogIns:
            break
        begun += 1
    assert begun == 3


def test_others_cannot_lock_a_user_out_of_his_own_place(throttle):
    throttle.begin("kim", "10.0.0.5")
    throttle.succeeded("kim", "10.0.0.5")
    fail(throttle, "kim", "10.0.0.66", 3)
    with pytest.raises(TooManyLogIns):
        throttle.begin("kim", "10.0.0.66")
    throttle.begin("kim", "10.0.0.5")


def test_his_own_place_is_limited_too(throttle):
    throttle.begin("kim", "10.0.0.5")
    throttle.succeeded("kim", "10.0.0.5")
    fail(throttle, "kim", "10.0.0.5", 3)
    with pytest.raises(TooManyLogIns):
        throttle.begin("kim", "10.0.0.5")


def test_signing_in_as_oneself_does_not_wipe_out_guesses_at_others(throttle):
    fail(throttle, "kim", "10.0.0.1")
    fail(throttle, "lee", "10.0.0.1")
    throttle.begin("mallory", "10.0.0.1")
    throttle.succeeded("mallory", "10.0.0.1")
    fail(throttle, "kim", "10.0.0.1")
    with pytest.raises(TooManyLogIns):
        throttle.begin("lee", "10.0.0.1")
