"""The CLI knows every path of the API: a new noun without a command is found here."""

import ast
import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
FOR_PROGRAMS_ONLY = {"/metrics"}


def paths_of_the_api():
    document = json.loads((ROOT / "dashboard/openapi.json").read_text())
    return {re.sub(r"\{[^}]*\}", "{}", path).removeprefix("/api/v1") for path in document["paths"]}


def paths_in_the_cli():
    """Texts that begin like a path; whatever is filled in counts as one part."""
    for file in sorted((ROOT / "src/haechi/cli").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            text = ""
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value
            elif isinstance(node, ast.JoinedStr):
                parts = (p.value if isinstance(p, ast.Constant) else "{}" for p in node.values)
                text = "".join(parts)
            if re.match(r"/[a-z]", text):
                yield text.partition("?")[0]


def test_every_path_has_its_command():
    spoken = [re.escape(path).replace(r"\{\}", "[^?]+") for path in paths_in_the_cli()]
    missing = {
        path
        for path in paths_of_the_api()
        if not any(re.fullmatch(pattern, path) for pattern in spoken)
    }
    assert missing == FOR_PROGRAMS_ONLY
