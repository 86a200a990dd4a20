"""Secrets at rest and in memory.

`Secret` keeps a value out of logs and reprs by type. `Keyring` encrypts with AES-256-GCM and the
owner's id as associated data, so a ciphertext moved to another row does not decrypt. The key file
lives beside the DB, never in it (0600); older keys stay readable for rotation.
"""

import base64
import binascii
import hashlib
import hmac
import os
from pathlib import Path
from typing import Final

from haechi.errors import Text, Upstream

_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12


class KeyringDamaged(Upstream):
    code = "core.keyring_damaged"
    detail = Text(
        "암호화 키 파일 {path}을(를) 사용할 수 없습니다: {reason}",
        "The key file {path} cannot be used: {reason}",
    )
    remedy = Text(
        "백업해 둔 같은 파일로 되돌리세요. 이 키 없이는 저장된 비밀번호와 인증서를 읽을 수 "
        "없습니다.",
        "Put the same file back from a backup; stored passwords and certificates cannot be read "
        "without it.",
    )


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


def _create(path: Path, content: bytes) -> None:
    """All of it or nothing, on the disk before anything is encrypted with it; never over another.
    A crash on the way leaves a file of another name, which the next try takes away.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with os.fdopen(os.open(part, flags, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.link(part, path)
    part.unlink()
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class Keyring:
    """Encrypts secrets for the DB. File format: one base64 key per line, the newest first."""

    def __init__(self, keys: list[bytes]) -> None:
        if not keys:
            raise ValueError("a keyring needs a key")
        # Loaded where a keyring is: an agent holds Secrets but no keyring, and 8 MB less.
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._keys = [AESGCM(key) for key in keys]

    @classmethod
    def open(cls, path: Path, *, create: bool = True) -> "Keyring":
        """Read the key file, or create it (0600) where it does not exist yet. Raises KeyringDamaged
        where it cannot be read; without `create`, also where it is not there.
        """
        if create and not path.exists():
            _create(path, base64.b64encode(os.urandom(_KEY_BYTES)) + b"\n")
        try:
            keys = [base64.b64decode(line, validate=True) for line in path.read_bytes().split()]
        except OSError as error:
            raise KeyringDamaged(path=str(path), reason=error.strerror) from error
        except binascii.Error as error:
            raise KeyringDamaged(path=str(path), reason="no key in base64") from error
        if not keys or any(len(key) != _KEY_BYTES for key in keys):
            raise KeyringDamaged(path=str(path), reason=f"no key of {_KEY_BYTES} bytes")
        return cls(keys)

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
