"""Camera URLs: split the login off, show the rest, put the login back properly encoded.

Pure text; nothing here ever connects to anything.
"""

import re
from typing import Final, NamedTuple
from urllib.parse import quote, unquote

from haechi.domains.inventory.model import BadCameraUrl

MAX_URL_CHARS: Final = 2000
_SCHEME: Final = re.compile(r"^(rtsps?)://", re.IGNORECASE)
_HOST: Final = re.compile(
    r"^(?P<host>\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9.])?)(?::(?P<port>\d{1,5}))?$"
)
# Many cheap cameras take the login in the path, with `_` or `/` between its parts.
_SENSITIVE: Final = re.compile(
    r"(?i)(?<=[?&;/_])(pass(?:word|wd)?|pwd|psw|auth|token|secret|key)=([^&;#]*)"
)
MASK: Final = "***"


class CameraUrl(NamedTuple):
    """`url` has no login but may still hold secrets in path or query: `shown` never does."""

    url: str
    login: str | None
    password: str | None

    @property
    def shown(self) -> str:
        return _SENSITIVE.sub(lambda m: f"{m.group(1)}={MASK}", self.url)

    @property
    def hides_something(self) -> bool:
        return self.shown != self.url


def parse(text: str) -> CameraUrl:
    """Raises BadCameraUrl; its reason never repeats the login."""
    text = text.strip()
    if not text or len(text) > MAX_URL_CHARS:
        raise BadCameraUrl(reason=f"1-{MAX_URL_CHARS} characters")
    if any(ord(char) <= 0x20 or 0x7F <= ord(char) < 0xA0 for char in text):
        raise BadCameraUrl(reason="blank or control character")
    if any(0xD800 <= ord(char) < 0xE000 for char in text):
        raise BadCameraUrl(reason="not Unicode")
    scheme = _SCHEME.match(text)
    if scheme is None:
        raise BadCameraUrl(reason="not rtsp:// or rtsps://")
    rest = text[scheme.end() :]
    end = min((index for index in map(rest.find, "/?#") if index >= 0), default=len(rest))
    authority, path = rest[:end], rest[end:]
    userinfo, at, host = authority.rpartition("@")
    found = _HOST.match(host)
    if found is None or int(found["port"] or 1) not in range(1, 65536):
        raise BadCameraUrl(reason="host or port")
    if "#" in path:
        raise BadCameraUrl(reason="'#'")
    user, colon, password = userinfo.partition(":")
    return CameraUrl(
        url=f"{scheme.group(1).lower()}://{host}{path}",
        login=unquote(user) if at and user else None,
        password=unquote(password) if colon else None,
    )


def with_login(url: str, login: str | None, password: str | None) -> str:
    """Put a login into a URL made by `parse`; every special character percent-encoded."""
    if not login:
        return url
    scheme, _, rest = url.partition("://")
    userinfo = quote(login, safe="")
    if password is not None:
        userinfo += ":" + quote(password, safe="")
    return f"{scheme}://{userinfo}@{rest}"
