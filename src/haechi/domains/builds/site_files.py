"""Giving every RUN the site's package index and CA without leaving them in the image.

The files (pip.conf, CA) lie in a small image of their own, mounted into each RUN: they are in no
layer, no history and no build context. Paths to them come by ARG, which ends with the build. Pure.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from haechi.domains.packages.dockerfile_lines import directives, instructions

FOLDER: Final = "/run/haechi-build"
_NAME: Final = "haechi-build-files"
# Variables by which the usual tools find a CA file; pip reads its own from pip.conf.
_CA_VARIABLES: Final = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT")


@dataclass(frozen=True, slots=True)
class SiteFiles:
    """Name in the folder → content. Empty: nothing to give."""

    files: Mapping[str, bytes]

    @property
    def image(self) -> str:
        digest = hashlib.sha256()
        for name, content in sorted(self.files.items()):
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
        return f"{_NAME}:{digest.hexdigest()[:16]}"

    @property
    def dockerfile(self) -> str:
        return f"FROM scratch\nCOPY {' '.join(sorted(self.files))} /\n"


def site_files(*, pip_index_url: str, ca_pem: bytes) -> SiteFiles:
    if not pip_index_url and not ca_pem:
        return SiteFiles({})
    lines = ["[global]", "disable-pip-version-check = true"]
    if pip_index_url:
        lines.append(f"index-url = {pip_index_url}")
    files = {}
    if ca_pem:
        lines.append(f"cert = {FOLDER}/ca.pem")
        files["ca.pem"] = ca_pem
    files["pip.conf"] = ("\n".join(lines) + "\n").encode()
    return SiteFiles(files)


def with_site_files(text: str, files: SiteFiles) -> str:
    """Mount the files into every RUN and declare where they are, once a stage."""
    if not files.files:
        return text
    lines = text.split("\n")
    escape = directives(lines).escape
    mount = f"--mount=type=bind,from={files.image},target={FOLDER}"
    variables = {"PIP_CONFIG_FILE": f"{FOLDER}/pip.conf"}
    if "ca.pem" in files.files:
        variables |= dict.fromkeys(_CA_VARIABLES, f"{FOLDER}/ca.pem")
    declare = "".join(f"\nARG {name}={value}" for name, value in variables.items())
    for part in list(instructions(lines, escape)):
        if part.name == "FROM":
            ending = "\r" if lines[part.last].endswith("\r") else ""
            lines[part.last] = lines[part.last].rstrip("\r") + declare + ending
        elif part.name == "RUN":
            line = lines[part.first]
            start = len(line) - len(line.lstrip()) + len(part.name)
            lines[part.first] = f"{line[:start]} {mount}{line[start:]}"
    return "\n".join(lines)


def without_mount(line: str) -> str:
    """A log line as the author knows his Dockerfile."""
    start = line.find(f"--mount=type=bind,from={_NAME}:")
    if start < 0:
        return line
    end = line.find(" ", start)
    return line[:start] + (line[end + 1 :] if end >= 0 else "")
