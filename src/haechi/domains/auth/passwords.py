"""Passwords: the rules they follow, and Argon2id off the event loop.

At most two hashes run at once: each takes 46 MB, and a flood of log-ins must not take the
server's memory.
"""

import asyncio
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from haechi.core.secrets import Secret
from haechi.domains.auth.errors import WeakPassword
from haechi.domains.auth.model import name_key

MIN_CHARACTERS: Final = 10
MAX_CHARACTERS: Final = 256
_AT_ONCE: Final = 2
_MIN_DIFFERENT: Final = 4

# OWASP's first choice for Argon2id (46 MiB, one pass): about 60 ms on an edge server.
STRONG: Final = PasswordHasher(time_cost=1, memory_cost=47104, parallelism=1)


def check_password(name: str, password: Secret) -> None:
    """Raises WeakPassword."""
    text = password.reveal()
    if len(text) < MIN_CHARACTERS:
        raise WeakPassword(reason="too short", reason_ko="너무 짧습니다")
    if len(text) > MAX_CHARACTERS:
        raise WeakPassword(reason="too long", reason_ko="너무 깁니다")
    if name_key(text) == name_key(name) or len(set(text)) < _MIN_DIFFERENT:
        raise WeakPassword(reason="too easy to guess", reason_ko="추측하기 쉽습니다")


class Passwords:
    def __init__(self, hasher: PasswordHasher = STRONG) -> None:
        self._hasher = hasher
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._nobody: str | None = None

    async def hash(self, password: Secret) -> str:
        async with self._slots:
            return await asyncio.to_thread(self._hasher.hash, password.reveal())

    async def verify(self, stored: str | None, password: Secret) -> bool:
        """With `stored` None (no such user) as much work is done, and the answer is no."""
        if self._nobody is None:
            self._nobody = await self.hash(Secret("no user has this password"))
        matches = await self._verify(stored or self._nobody, password)
        return matches and stored is not None

    def is_outdated(self, stored: str) -> bool:
        """Whether the hash should be renewed with today's cost at the next good log-in."""
        return self._hasher.check_needs_rehash(stored)

    async def _verify(self, stored: str, password: Secret) -> bool:
        async with self._slots:
            return await asyncio.to_thread(self._verify_now, stored, password.reveal())

    def _verify_now(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False
