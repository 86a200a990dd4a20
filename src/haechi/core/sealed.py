"""Files that only this server can read: encrypted piece by piece, so that size does not matter.

AES-256-GCM over pieces of 1 MiB with a key of the file's own. Each piece's nonce is its place, and
place, owner and whether it is the last are associated data: pieces cannot be left out, swapped,
appended or moved to another file unseen. The key belongs into the DB, itself encrypted by the
keyring.
"""

import base64
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from haechi.core.secrets import Secret
from haechi.errors import Text, Upstream

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_MAGIC: Final = b"haechi-sealed-1\n"
_PIECE: Final = 1024**2
_TAG: Final = 16


class SealedFileDamaged(Upstream):
    code = "core.sealed_file_damaged"
    detail = Text(
        "암호화된 파일 {path}이(가) 손상되었거나 다른 것으로 바뀌었습니다.",
        "The encrypted file {path} is damaged, or is not the one it should be.",
    )
    remedy = Text(
        "데이터 폴더의 백업에서 이 파일을 되돌리거나 다른 백업을 쓰세요.",
        "Put it back from a backup of the data folder, or use another backup.",
    )


def new_key() -> Secret:
    return Secret(base64.b64encode(os.urandom(32)).decode())


def seal(source: BinaryIO, target: Path, key: Secret, owner: str) -> None:
    """Encrypt all of `source` into `target` (0600), which appears whole or not at all."""
    part = target.with_name(f"{target.name}.part")
    cipher = _cipher(key)
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(_MAGIC)
            piece, place = source.read(_PIECE), 0
            while True:
                following = source.read(_PIECE) if len(piece) == _PIECE else b""
                last = not following
                file.write(cipher.encrypt(_nonce(place), piece, _about(owner, place, last=last)))
                if last:
                    break
                piece, place = following, place + 1
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def unseal(path: Path, key: Secret, owner: str) -> Iterator[bytes]:
    """The content, piece by piece, each checked before it is given. Raises SealedFileDamaged, also
    where there is no file.
    """
    from cryptography.exceptions import InvalidTag

    cipher = _cipher(key)
    try:
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise SealedFileDamaged(path=str(path))
            piece, place = file.read(_PIECE + _TAG), 0
            while True:
                following = file.read(_PIECE + _TAG)
                about = _about(owner, place, last=not following)
                yield cipher.decrypt(_nonce(place), piece, about)
                if not following:
                    return
                piece, place = following, place + 1
    except (InvalidTag, OSError, ValueError) as error:
        raise SealedFileDamaged(path=str(path)) from error


def _cipher(key: Secret) -> "AESGCM":
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(base64.b64decode(key.reveal()))


def _nonce(place: int) -> bytes:
    return struct.pack(">4xQ", place)


def _about(owner: str, place: int, *, last: bool) -> bytes:
    return f"{owner}:{place}:{'last' if last else 'more'}".encode()
