"""Tables of users and credentials. Every secret is a digest or an Argon2 hash."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from haechi.core.access import Role
from haechi.core.db import Base, Json, UtcDateTime
from haechi.domains.auth.model import ApiToken, User
from haechi.errors import Language


class UserRow(Base):
    __tablename__ = "users"

    id: Mapped[str] = mapped_column(sa.String(32), primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(64))
    name_key: Mapped[str] = mapped_column(sa.String(200), unique=True)
    password_hash: Mapped[str] = mapped_column(sa.String(200))
    role: Mapped[int]
    language: Mapped[Language | None] = mapped_column(sa.String(2))
    must_change_password: Mapped[bool]
    disabled: Mapped[bool]
    revision: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    last_login_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


def _owner() -> Mapped[str]:
    return mapped_column(sa.String(32), sa.ForeignKey("users.id", ondelete="CASCADE"), index=True)


class SessionRow(Base):
    __tablename__ = "sessions"

    digest: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    user_id: Mapped[str] = _owner()
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    last_used_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


class ApiTokenRow(Base):
    __tablename__ = "api_tokens"

    id: Mapped[str] = mapped_column(sa.String(32), primary_key=True)
    digest: Mapped[str] = mapped_column(sa.String(64), unique=True)
    user_id: Mapped[str] = _owner()
    name: Mapped[str] = mapped_column(sa.String(100))
    role: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    last_used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class DeploymentTokenRow(Base):
    """No foreign keys: deployments and devices belong to domains above this one."""

    __tablename__ = "deployment_tokens"

    digest: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    deployment_id: Mapped[str] = mapped_column(sa.String(32), index=True)
    device_id: Mapped[str] = mapped_column(sa.String(32), index=True)
    direct: Mapped[bool]
    facts: Mapped[dict[str, str]] = mapped_column(Json)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class EnrolmentTokenRow(Base):
    __tablename__ = "enrolment_tokens"

    digest: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    device_id: Mapped[str] = mapped_column(sa.String(32), index=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)
    used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class DeviceCertificateRow(Base):
    """Certificates that the site CA gave to devices: the revocation list is looked up here."""

    __tablename__ = "device_certificates"

    serial: Mapped[str] = mapped_column(sa.String(40), primary_key=True)
    device_id: Mapped[str] = mapped_column(sa.String(32), index=True)
    issued_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)
    first_used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


def to_user(row: UserRow) -> User:
    return User(
        id=row.id,
        name=row.name,
        role=Role(row.role),
        language=row.language,
        must_change_password=row.must_change_password,
        disabled=row.disabled,
        revision=row.revision,
        created_at=row.created_at,
        last_login_at=row.last_login_at,
    )


def to_token(row: ApiTokenRow, user_name: str) -> ApiToken:
    return ApiToken(
        id=row.id,
        user_id=row.user_id,
        user_name=user_name,
        name=row.name,
        role=Role(row.role),
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
    )
