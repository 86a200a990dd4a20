"""`haechi token`: for programs that act for a user."""

from datetime import UTC, datetime, timedelta

import click

from haechi.cli.client import Api, pass_api

COLUMNS = ["id", "name", "role", "user_name", "expires_at", "last_used_at"]


@click.group()
def token() -> None:
    """API tokens: HAECHI_TOKEN for the CLI, `Authorization: Bearer` for programs."""


@token.command("list")
@click.option("--everyone", is_flag=True, help="All users' (administrators).")
@pass_api
def list_tokens(api: Api, everyone: bool) -> None:
    """List one's API tokens."""
    api.show(api.get_all("/tokens", everyone=everyone or None), COLUMNS)


@token.command("create")
@click.argument("name")
@click.option("--role", type=click.Choice(["viewer", "operator", "admin"]), help="[your own]")
@click.option("--days", type=click.IntRange(1, 3650), help="Expires after so many days. [never]")
@pass_api
def create_token(api: Api, name: str, role: str | None, days: int | None) -> None:
    """Make a token; its secret is shown this once."""
    body = {"name": name, "role": role}
    if days is not None:
        body["expires_at"] = (datetime.now(UTC) + timedelta(days=days)).isoformat()
    api.show(api.post("/tokens", body))
    api.say(
        "secret 값은 다시 볼 수 없습니다. 지금 보관하세요.",
        "The secret is not shown again: keep it now.",
    )


@token.command("delete")
@click.argument("token_id")
@pass_api
def delete_token(api: Api, token_id: str) -> None:
    """Revoke a token: it stops working at once."""
    api.delete(f"/tokens/{token_id}")
    api.say("토큰을 폐기했습니다.", "The token was revoked.")
