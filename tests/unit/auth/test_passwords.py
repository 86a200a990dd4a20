import argon2
import pytest

from haechi.core.secrets import Secret
from haechi.domains.auth.errors import WeakPassword
from haechi.domains.auth.passwords import STRONG, Passwords, check_password

CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@pytest.mark.parametrize(
    "password", ["nine~char", "aaaaaaaaaaaaaaa", "Kim.Yuna.Long", "kim.yuna.long", "x" * 300]
)
def test_weak_passwords_are_refused(password):
    with pytest.raises(WeakPassword) as refused:
        check_password("Kim.Yuna.Long", Secret(password))
    assert password not in str(refused.value)


def test_a_long_one_is_taken():
    check_password("kim", Secret("철수와 영희는 산책을 갑니다"))


async def test_verify():
    passwords = Passwords(CHEAP)
    stored = await passwords.hash(Secret("right"))
    assert stored.startswith("$argon2id$")
    assert await passwords.verify(stored, Secret("right"))
    assert not await passwords.verify(stored, Secret("wrong"))
    assert not await passwords.verify("not a hash", Secret("wrong"))


async def test_an_unknown_name_costs_as_many_hashes_as_a_known_one():
    """The work is counted, since time on a busy machine says nothing."""
    calls = []

    class Counting(argon2.PasswordHasher):
        def verify(self, *args, **kwargs):
            calls.append(args[0])
            return super().verify(*args, **kwargs)

    passwords = Passwords(Counting(time_cost=1, memory_cost=8, parallelism=1))
    stored = await passwords.hash(Secret("right"))
    assert not await passwords.verify(stored, Secret("wrong"))
    assert not await passwords.verify(None, Secret("wrong"))
    assert not await passwords.verify(None, Secret("no user has this password"))
    assert len(calls) == 3


async def test_hashes_of_another_cost_are_outdated():
    stored = await Passwords(CHEAP).hash(Secret("right"))
    assert Passwords(STRONG).is_outdated(stored)
    assert not Passwords(CHEAP).is_outdated(stored)
