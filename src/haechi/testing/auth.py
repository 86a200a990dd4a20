"""Passwords for tests: hashing that costs nothing, and one that the rules accept."""

from typing import Final

import argon2

from haechi.domains.auth.passwords import Passwords

PASSWORD: Final = "correct horse battery"  # noqa: S105 - of tests only
CHEAP: Final = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


def cheap_passwords() -> Passwords:
    """`Auth(passwords=cheap_passwords())`: real Argon2id, without the 46 MB and 60 ms a time."""
    return Passwords(CHEAP)
