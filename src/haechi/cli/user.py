"""`haechi user`: who may sign in, and as what."""

from typing import Any

import click

from haechi.cli.client import Api, pass_api
from haechi.cli.session import ask_password
from haechi.cli.session import change_password as change

COLUMNS = ["id", "name", "role", "disabled", "must_change_password", "last_login_at"]
ROLES = click.Choice(["viewer", "operator", "admin"])
_STDIN = click.option("--password-stdin", is_flag=True, help="Read it from standard input.")


@click.group()
def user() -> None:
    """Users and their roles (administrators); one's own password."""


@user.command("list")
@pass_api
def list_users(api: Api) -> None:
    """List users."""
    api.show(api.get_all("/users"), COLUMNS)


@user.command("show")
@click.argument("name")
@pass_api
def show_user(api: Api, name: str) -> None:
    """Show one user."""
    api.show(_find(api, name))


@user.command("create")
@click.argument("name")
@click.option("--role", type=ROLES, default="viewer", show_default=True)
@click.option("--user-language", type=click.Choice(["ko", "en"]), help="Of texts and errors.")
@_STDIN
@pass_api
def create_user(
    api: Api, name: str, role: str, user_language: str | None, password_stdin: bool
) -> None:
    """Create a user, who changes the password at the first log-in."""
    body = {
        "name": name,
        "password": ask_password(api, new=True, stdin=password_stdin),
        "role": role,
        "language": user_language,
    }
    api.show(api.post("/users", body))


@user.command("edit")
@click.argument("name")
@click.option("--new-name")
@click.option("--role", type=ROLES)
@click.option("--user-language", type=click.Choice(["ko", "en"]))
@click.option("--disable/--enable", "disabled", default=None, help="May not sign in / may again.")
@pass_api
def edit_user(
    api: Api,
    name: str,
    new_name: str | None,
    role: str | None,
    user_language: str | None,
    disabled: bool | None,
) -> None:
    """Change name, role or language; disable or enable."""
    given = {"name": new_name, "role": role, "language": user_language, "disabled": disabled}
    changes = {key: value for key, value in given.items() if value is not None}
    if not changes:
        raise click.UsageError("nothing to change")
    api.show(api.edit(f"/users/{_find(api, name)['id']}", changes))


@user.command("reset-password")
@click.argument("name")
@_STDIN
@pass_api
def reset_password(api: Api, name: str, password_stdin: bool) -> None:
    """Give another user a new password; his sessions end and he must change it."""
    found = _find(api, name)
    password = ask_password(api, new=True, stdin=password_stdin)
    api.show(api.edit(f"/users/{found['id']}", {"password": password}))


@user.command("password")
@_STDIN
@pass_api
def change_password(api: Api, password_stdin: bool) -> None:
    """Change one's own password (standard input: the current one, then the new one)."""
    change(api, ask_password(api, stdin=password_stdin), stdin=password_stdin)


@user.command("me")
@click.option("--user-language", type=click.Choice(["ko", "en"]), help="Choose one's own.")
@pass_api
def show_me(api: Api, user_language: str | None) -> None:
    """Show who is signed in and what he may do; choose the language of texts and errors."""
    if user_language is None:
        api.show(api.get("/me"))
    else:
        api.show(api.request("PATCH", "/me", json={"language": user_language}).json())


@user.command("delete")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_api
def delete_user(api: Api, name: str, yes: bool) -> None:
    """Delete a user with all sessions and tokens."""
    found = _find(api, name)
    if not yes:
        question = "삭제할까요" if api.language == "ko" else "Delete"
        click.confirm(f"{found['name']} ({found['role']}): {question}?", abort=True)
    api.delete(f"/users/{found['id']}")
    api.say(f"{found['name']} 사용자를 삭제했습니다.", f"User {found['name']} was deleted.")


def _find(api: Api, name: str) -> Any:
    """By id, or by name; asked as an id where no name fits, so that the API says what is wrong."""
    if not name.startswith("usr-"):
        for found in api.get_all("/users"):
            if found["name"].casefold() == name.casefold():
                return found
    return api.get(f"/users/{name}")
