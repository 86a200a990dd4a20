"""Secrets at rest and in memory.

`Secret` keeps a value out of logs and reprs by type. `Keyring` encrypts with AES-256-GCM and the
owner's id as associated data, so a ciphertext moved to another row does not decrypt. The key file
lives beside the DB, never in it (0600); older keys stay readable for rotation.
"""

import base64
import hashlib
import hmac
import os
from pathlib import Path
from typing import Final

_NONCE_BYTES: Final = 12


class Secret:
    """A string that shows as `***` wherever it is printed; `.reveal()` is the only way out."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(
            self._value.encode(), other._value.encode()
        )

    def __hash__(self) -> int:
        return hash(self._value)

    def __bool__(self) -> bool:
        return bool(self._value)


def token_digest(token: str) -> str:
    """How opaque random tokens are stored: they have 256 bits, so a plain SHA-256 is enough."""
    return hashlib.sha256(token.encode()).hexdigest()


class Keyring:
    """Encrypts secrets for the DB. File format: one base64 key per line, the newest first."""

    def __init__(self, keys: list[bytes]) -> None:
        if not keys:
            raise ValueError("a keyring needs a key")
        # Loaded where a keyring is: an agent holds Secrets but no keyring, and 8 MB less.
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._keys = [AESGCM(key) for key in keys]

    @classmethod
    def open(cls, path: Path) -> "Keyring":
        """Read the key file, or create it (0600) where it does not exist yet."""
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
                file.write(base64.b64encode(os.urandom(32)) + b"\n")
                file.flush()
                os.fsync(file.fileno())
        lines = path.read_bytes().split()
        return cls([base64.b64decode(line) for line in lines])

    def encrypt(self, secret: Secret, owner: str) -> bytes:
        """`owner` is the id (and field) of the row that holds it, e.g. `cam-…:password`."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._keys[0].encrypt(nonce, secret.reveal().encode(), owner.encode())

    def decrypt(self, blob: bytes, owner: str) -> Secret:
        """Raises InvalidTag when the blob belongs to another owner or no key fits."""
        from cryptography.exceptions import InvalidTag

        nonce, body = blob[:_NONCE_BYTES], blob[_NONCE_BYTES:]
        for key in self._keys:
            try:
                return Secret(key.decrypt(nonce, body, owner.encode()).decode())
            except InvalidTag:
                continue
        raise InvalidTag
