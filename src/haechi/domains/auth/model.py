"""Users and their credentials as values. Nothing here holds a secret in the clear."""

import unicodedata
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from haechi.core.access import Role
from haechi.core.secrets import Secret
from haechi.errors import Language

SESSION_PREFIX: Final = "hcs_"
TOKEN_PREFIX: Final = "hct_"  # noqa: S105 - a prefix
DEPLOYMENT_PREFIX: Final = "hcd_"
ENROLMENT_PREFIX: Final = "hce_"
"""Prefixes tell the kinds apart and let secret scanners find a leaked one."""

ADMIN_NAME: Final = "admin"
MUST_CHANGE_PASSWORD: Final = "must_change_password"  # noqa: S105 - a key
"""Key in `Principal.facts` of a session that may do nothing but change its password."""


@dataclass(frozen=True, slots=True)
class User:
    id: str
    name: str
    role: Role
    language: Language | None
    must_change_password: bool
    disabled: bool
    revision: int
    created_at: datetime
    last_login_at: datetime | None


@dataclass(frozen=True, slots=True)
class ApiToken:
    """Acts for its owner, with at most the role the owner has at that moment."""

    id: str
    user_id: str
    user_name: str
    name: str
    role: Role
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class LogIn:
    """A new session: the only time its secret is known."""

    user: User
    secret: Secret


@dataclass(frozen=True, slots=True)
class EnrolmentToken:
    device_id: str
    secret: Secret
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Peer:
    """What the connection itself says about the caller."""

    address: str = ""
    device_id: str | None = None
    """From a verified client certificate."""


@dataclass(frozen=True, slots=True)
class UserChange:
    """Fields that are not None are set."""

    role: Role | None = None
    disabled: bool | None = None
    password: Secret | None = None
    name: str | None = None
    language: Language | None = None

    def describe(self) -> dict[str, Any]:
        """For the audit log: what changed, without the password itself."""
        changes: dict[str, Any] = {}
        if self.role is not None:
            changes["role"] = self.role.name.lower()
        if self.disabled is not None:
            changes["disabled"] = self.disabled
        if self.name is not None:
            changes["name"] = self.name
        if self.language is not None:
            changes["language"] = self.language
        if self.password is not None:
            changes["reset"] = True
        return changes


def clean_name(name: str) -> str:
    return unicodedata.normalize("NFC", name.strip())


def name_key(name: str) -> str:
    """Two names with one key would look the same to people: `Admin` and `admin`."""
    return unicodedata.normalize("NFKC", name.strip()).casefold()
