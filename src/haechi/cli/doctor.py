"""`haechi doctor`: what is wrong with this machine, and how to mend it. Changes nothing."""

import json
import os
import platform
import shutil
import socket
import sqlite3
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import click

Verdict = Literal["ok", "warning", "problem"]
_GIB = 1024**3


@dataclass(frozen=True)
class Finding:
    """`remedy` is empty where all is well."""

    name: str
    verdict: Verdict
    fact: str
    remedy: str = ""


def _python() -> Finding:
    return Finding("python", "ok", platform.python_version())


def _disk(data_dir: Path, ko: bool) -> Finding:
    place = data_dir
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    fact = f"{free / _GIB:.1f} GiB free at {place}"
    if free >= 10 * _GIB:
        return Finding("disk", "ok", fact)
    remedy = (
        "이미지와 결과를 위해 10 GiB 이상 비워 두세요."
        if ko
        else "Keep at least 10 GiB free for images and results."
    )
    return Finding("disk", "problem" if free < 2 * _GIB else "warning", fact, remedy)


def _memory(ko: bool) -> Finding:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    fact = f"{total / _GIB:.1f} GiB"
    if total >= 3.5 * _GIB:
        return Finding("memory", "ok", fact)
    remedy = "서버에는 4 GiB 이상을 권장합니다." if ko else "A server wants 4 GiB or more."
    return Finding("memory", "warning", fact, remedy)


def _docker(path: str, ko: bool) -> Finding:
    install = (
        "'apt-get install docker.io' 후 dockerd를 시작하세요 (저장소에서는 'make setup')."
        if ko
        else "Run `apt-get install docker.io` and start dockerd (`make setup` in a checkout)."
    )
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(3)
            sock.connect(path)
            sock.sendall(b"GET /version HTTP/1.0\r\nHost: docker\r\n\r\n")
            answer = b""
            while piece := sock.recv(65536):
                answer += piece
        version = json.loads(answer.partition(b"\r\n\r\n")[2])["Version"]
    except PermissionError:
        remedy = (
            "이 사용자를 docker 그룹에 추가하고 다시 로그인하세요."
            if ko
            else "Add this user to the group docker and log in again."
        )
        return Finding("docker", "problem", f"no permission for {path}", remedy)
    except (OSError, ValueError, KeyError) as error:
        return Finding("docker", "problem", f"{path}: {error}", install)
    return Finding("docker", "ok", f"{version} at {path}")


def _registry(binary: str, ko: bool) -> Finding:
    found = shutil.which(binary)
    if found:
        return Finding("registry", "ok", found)
    remedy = (
        "'apt-get install docker-registry'를 실행하세요."
        if ko
        else "Run `apt-get install docker-registry`."
    )
    return Finding("registry", "problem", f"{binary} not found", remedy)


def _port(name: str, address: str, ko: bool) -> Finding:
    from haechi.web.server import CannotListen, bind

    try:
        bind(address).close()
    except CannotListen as error:
        remedy = (
            "haechi가 이미 실행 중이면 정상입니다. 아니면 그 포트를 쓰는 프로그램을 끄세요."
            if ko
            else "Fine if haechi runs already; else stop the program that uses the port."
        )
        return Finding(name, "warning", f"{address}: {error.data['reason']}", remedy)
    return Finding(name, "ok", f"{address} is free")


def _sqlite() -> Finding:
    import apsw

    return Finding(
        "sqlite", "ok", f"control {sqlite3.sqlite_version}, telemetry {apsw.sqlite_lib_version()}"
    )


def _clock(ko: bool) -> Finding:
    from haechi.core.clock import SystemClock, to_text

    now = SystemClock().now()
    if now.year >= 2026:
        return Finding("clock", "ok", to_text(now))
    remedy = (
        "시계를 맞추세요 (chrony 또는 timedatectl)."
        if ko
        else "Set the clock (chrony, timedatectl)."
    )
    return Finding("clock", "problem", to_text(now), remedy)


def _dashboard(ko: bool) -> Finding:
    from haechi.app import STATIC_DIR

    if (STATIC_DIR / "index.html").exists():
        return Finding("dashboard", "ok", "built")
    remedy = (
        "저장소에서 'make dashboard'를 실행하거나 완성된 wheel을 설치하세요."
        if ko
        else "Run `make dashboard` in a checkout, or install the wheel, which contains it."
    )
    return Finding("dashboard", "warning", "not built", remedy)


def examine(ko: bool, config: Path | None) -> Iterator[Finding]:
    from haechi import settings

    set_to = settings.load(file=config).settings
    yield _python()
    yield _clock(ko)
    yield _memory(ko)
    yield _disk(set_to.server.data_dir.resolve(), ko)
    yield _sqlite()
    yield _docker(set_to.builds.docker_socket, ko)
    yield _registry(set_to.registry.binary, ko)
    yield _dashboard(ko)
    yield _port("listen", set_to.server.listen, ko)
    yield _port("agents listen", set_to.agents.listen, ko)
    yield _port("registry listen", set_to.registry.listen, ko)


@click.command()
@click.option(
    "--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="TOML file."
)
@click.pass_context
def doctor(ctx: click.Context, config: Path | None) -> None:
    """Examine this machine; exit code 5 where something must be mended first."""
    from haechi.cli.serve import fail
    from haechi.errors import AppError

    ko = ctx.meta.get("language") == "ko"
    try:
        findings = list(examine(ko, config))
    except AppError as error:
        fail(ctx, error)
        return
    if ctx.meta.get("json"):
        click.echo(json.dumps([asdict(finding) for finding in findings], ensure_ascii=False))
    else:
        signs = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "problem": ("✗", "red")}
        for finding in findings:
            sign, color = signs[finding.verdict]
            click.secho(f"{sign} {finding.name}: {finding.fact}", fg=color)
            if finding.remedy:
                click.echo(f"    → {finding.remedy}")
    if any(finding.verdict == "problem" for finding in findings):
        sys.exit(5)
