"""Puts the parts of the domain together; what other parts of haechi hold is an `Auth`."""

from collections.abc import Mapping
from pathlib import Path

from haechi.core.clock import Clock
from haechi.core.db import Database
from haechi.core.pki import SiteCa
from haechi.domains.audit.service import Audit
from haechi.domains.auth.authenticator import Authenticator
from haechi.domains.auth.machines import Machines
from haechi.domains.auth.passwords import Passwords
from haechi.domains.auth.sessions import Sessions
from haechi.domains.auth.throttle import Throttle
from haechi.domains.auth.tokens import ApiTokens
from haechi.domains.auth.users import Users


class Auth:
    """`authenticator` for the web layer, `machines` for agents and deployments, the rest for REST.

    `await start(os.environ)` once the tables exist and before the first request.
    """

    def __init__(
        self,
        *,
        db: Database,
        clock: Clock,
        audit: Audit,
        ca: SiteCa,
        data_dir: Path,
        session_hours: float,
        max_failures: int,
        passwords: Passwords | None = None,
    ) -> None:
        passwords = passwords or Passwords()
        self.session_hours = session_hours
        self.authenticator = Authenticator(
            db=db, clock=clock, audit=audit, session_hours=session_hours
        )
        self.machines = Machines(clock=clock, audit=audit, ca=ca, authenticator=self.authenticator)
        self.users = Users(
            db=db,
            clock=clock,
            audit=audit,
            authenticator=self.authenticator,
            passwords=passwords,
            data_dir=data_dir,
        )
        self.sessions = Sessions(
            db=db,
            clock=clock,
            audit=audit,
            authenticator=self.authenticator,
            users=self.users,
            passwords=passwords,
            throttle=Throttle(clock, max_failures),
            session_hours=session_hours,
        )
        self.tokens = ApiTokens(db=db, clock=clock, audit=audit, authenticator=self.authenticator)

    async def start(self, environment: Mapping[str, str]) -> None:
        """First-run administrator, and housekeeping."""
        await self.users.ensure_admin(environment)
        await self.sessions.forget_expired()
