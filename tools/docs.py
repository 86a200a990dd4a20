"""Write the reference pages from the code: settings, CLI, API, error codes.

python tools/docs.py           write docs/reference/*.md and dashboard/openapi.json
python tools/docs.py --check   say what is out of date, exit 1 where something is
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from haechi import settings
from haechi.app import describe_api
from haechi.cli.main import main as cli
from haechi.errors import catalogue

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "docs" / "reference"
GENERATED = "<!-- Written by `make docs`; do not edit. -->\n\n"


def settings_page() -> str:
    lines = [
        "# Settings\n",
        "A flag wins over the environment, that over the TOML file, that over what was changed in",
        "the dashboard, that over the default. `haechi settings show` prints each value with its",
        "origin. In the file, a setting `section.key` is `key` under `[section]`.\n",
        "| setting | environment | default | meaning | in the dashboard |",
        "|---|---|---|---|---|",
    ]
    for key, value, _, description in settings.load(environment={}).rows():
        section, _, name = key.partition(".")
        variable = f"HAECHI_{section.upper()}__{name.upper()}"
        changeable = "yes" if key in settings.DASHBOARD_KEYS else ""
        text = " ".join(description.split())
        lines.append(f"| `{key}` | `{variable}` | `{value}` | {text} | {changeable} |")
    return "\n".join(lines) + "\n"


def commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        ctx = click.Context(command, info_name=path)
        for name in command.list_commands(ctx):
            child = command.get_command(ctx, name)
            if child is not None and not child.hidden:
                yield from commands(child, f"{path} {name}")


def cli_page() -> str:
    lines = [
        "# Command line\n",
        "Exit codes: 0 done, 2 usage, 3 not found, 4 conflict or busy, 5 upstream (host, engine,",
        "registry), 6 not allowed, 70 bug. `--json` before the command prints the API's JSON.\n",
    ]
    for path, command in commands(cli, "haechi"):
        ctx = click.Context(command, info_name=path, terminal_width=100, max_content_width=100)
        lines += [f"## {path}\n", "```text", command.get_help(ctx).rstrip(), "```\n"]
    return "\n".join(lines)


def errors_page() -> str:
    lines = [
        "# Error codes · 오류 코드\n",
        "Every refusal has one shape, `application/problem+json`: `type`, `title`, `status`,",
        "`code`, `detail`, `remedy`, `data`, `request_id`. The code never changes once shipped.\n",
        "| code | status | what happened | remedy |",
        "|---|---|---|---|",
    ]
    for code, cls in catalogue().items():
        detail = f"{cls.detail.ko}<br>{cls.detail.en}"
        remedy = f"{cls.remedy.ko}<br>{cls.remedy.en}"
        row = f"| `{code}` | {cls.http_status} | {detail} | {remedy} |"
        lines.append(row.replace("\n", " "))
    return "\n".join(lines) + "\n"


def api_page(document: dict[str, Any]) -> str:
    lines = [
        "# HTTP API\n",
        "Base path `/api/v1`. The OpenAPI document is served at `/api/v1/openapi.json` and printed",
        "by `haechi openapi`. Access: the least role, or the kind of machine that may call.\n",
        "| method | path | access | purpose |",
        "|---|---|---|---|",
    ]
    for path, operations in sorted(document["paths"].items()):
        for method, operation in operations.items():
            text = (operation.get("description") or operation["summary"]).split("\n\n")[0]
            access = operation.get("x-access", "")
            purpose = " ".join(text.split()).replace("|", "\\|")
            shown = access.replace("|", " or ")
            lines.append(f"| {method.upper()} | `{path}` | {shown} | {purpose} |")
    return "\n".join(lines) + "\n"


def pages() -> dict[Path, str]:
    document = describe_api()
    return {
        REFERENCE / "settings.md": GENERATED + settings_page(),
        REFERENCE / "cli.md": GENERATED + cli_page(),
        REFERENCE / "errors.md": GENERATED + errors_page(),
        REFERENCE / "api.md": GENERATED + api_page(document),
        ROOT / "dashboard" / "openapi.json": json.dumps(
            document, ensure_ascii=False, indent=1, sort_keys=True
        )
        + "\n",
    }


def main() -> int:
    check = "--check" in sys.argv[1:]
    stale = []
    for path, text in pages().items():
        if path.exists() and path.read_text("utf-8") == text:
            continue
        stale.append(path.relative_to(ROOT))
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
    for path in stale:
        print(f"{'out of date' if check else 'written'}: {path}")
    if check and stale:
        print("run `make docs`")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
