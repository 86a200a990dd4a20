"""Settings: flag > environment > TOML file > changed in the dashboard > default (CONTRACTS 1).

One nested model; the docstring after a field is its description in the reference page. `Loaded`
remembers where each value came from, for `haechi settings show`. Knows no domain: a domain gets
the section it needs.
"""

import ipaddress
import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
)

from haechi.errors import Invalid, Text

ENV_PREFIX: Final = "HAECHI_"
Origin = Literal["flag", "environment", "file", "dashboard", "default"]


class BadSettings(Invalid):
    code = "settings.invalid"
    detail = Text("설정 값이 올바르지 않습니다: {reason}", "A setting is not valid: {reason}")
    remedy = Text(
        "'haechi settings show'와 설정 문서를 참고해 고치세요.",
        "Correct it; `haechi settings show` and the settings reference help.",
    )


def _address(value: str) -> str:
    """`HOST:PORT`, `[V6]:PORT` or `:PORT`; empty where the setting may be."""
    host, colon, port = value.rpartition(":")
    good = colon and port.isascii() and port.isdecimal() and int(port) < 2**16
    if value and (not good or (":" in host and not host.startswith("["))):
        raise ValueError(f"'{value}' is not HOST:PORT")
    return value


Address = Annotated[str, AfterValidator(_address)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ServerSettings(_Section):
    listen: Annotated[Address, Field(min_length=1)] = "127.0.0.1:8420"
    """HOST:PORT of dashboard and API."""
    data_dir: Path = Path("haechi-data")
    """Folder of databases, packages, logs, registry and keys."""
    tls: Literal["auto", "on", "off"] = "auto"
    """HTTPS by the site CA; `auto` leaves it off on loopback only."""
    language: Literal["ko", "en"] = "ko"
    """Language for callers that ask for none."""
    timezone: str = "Asia/Seoul"
    """Zone in which the site's times are shown."""
    allowed_origins: list[str] = []
    """Further origins whose pages may call the API with a session (behind a reverse proxy)."""
    head_s: Annotated[float, Field(gt=0)] = 30.0
    """The head of a request must have arrived after so long."""
    body_idle_s: Annotated[float, Field(gt=0)] = 120.0
    """A body that stands still for so long is given up; a slow radio link may have holes."""
    anonymous_connections: Annotated[int, Field(gt=0)] = 256
    """Open connections of one address on which nobody has signed in."""


class AgentsSettings(_Section):
    listen: Annotated[Address, Field(min_length=1)] = "127.0.0.1:8421"
    """HOST:PORT where agents call in; always TLS by the site CA."""
    address: Address = ""
    """HOST:PORT that agents are told to call; empty: as `listen`."""
    image: str = "haechi/agent:latest"
    """The agent's image in this machine's Docker (packaging/agent/build.py makes it)."""
    image_archive: Path | None = None
    """An archive of the agent's image (`docker save`) instead; `{arch}` in it is amd64 or arm64."""
    silent_after_s: Annotated[float, Field(gt=0)] = 3.0
    """No word for so long: shown as silent."""
    dead_after_s: Annotated[float, Field(gt=0)] = 8.0
    """No word for so long: dead, its work may move."""


class ClustersSettings(_Section):
    backup_every_hours: Annotated[float, Field(ge=0)] = 24
    """Every cluster is backed up so often; 0: only when asked."""
    backups_kept: Annotated[int, Field(ge=1)] = 14
    """Backups kept of each cluster, the newest."""
    renew_before_days: Annotated[float, Field(ge=1)] = 30
    """Certificates that end within so many days are renewed."""


class RegistrySettings(_Section):
    listen: Annotated[Address, Field(min_length=1)] = "127.0.0.1:8425"
    """HOST:PORT of the site registry, a supervised child; always TLS by the site CA."""
    push_listen: Address = ""
    """HOST:PORT for pushes by the server's builders; empty: on loopback, the port after."""
    address: Address = ""
    """HOST:PORT by which devices reach it; empty: as `listen`."""
    binary: str = "docker-registry"
    """The registry program (Debian's docker-registry)."""
    config_home: Path = Path("/etc/docker")
    """Where Docker looks for `certs.d` on this machine."""


class PackagesSettings(_Section):
    max_upload_bytes: Annotated[int, Field(gt=0)] = 2 * 1024**3
    """Largest zip that may be uploaded."""
    max_unpacked_bytes: Annotated[int, Field(gt=0)] = 8 * 1024**3
    """Largest sum of unpacked files."""
    max_files: Annotated[int, Field(gt=0)] = 50_000
    """Most entries in a zip."""
    min_free_bytes: Annotated[int, Field(ge=0)] = 1024**3
    """Disk space that uploads and builds must leave free."""


class BuildsSettings(_Section):
    docker_socket: str = "/var/run/docker.sock"
    """The Docker Engine that builds on the server; an address `unix path`."""
    timeout_s: Annotated[float, Field(gt=0)] = 1800
    """A build that takes longer is stopped."""
    parallel: Annotated[int, Field(ge=1)] = 1
    """Builds at once."""
    memory_bytes: Annotated[int, Field(gt=0)] = 4 * 1024**3
    """Memory limit of a build step."""
    max_log_bytes: Annotated[int, Field(gt=0)] = 16 * 1024**2
    """A build log is cut at this size."""
    max_image_bytes: Annotated[int, Field(gt=0)] = 12 * 1024**3
    """A larger image is refused."""
    pip_index_url: str = ""
    """Python package index for `pip install` inside builds (mirror of the site)."""
    ca_file: Path | None = None
    """CA certificates for builds, given as PIP_CERT, SSL_CERT_FILE and REQUESTS_CA_BUNDLE."""
    proxy: str = ""
    """HTTP proxy for builds."""
    network: str = "default"
    """Docker network mode of build steps; `none` forbids all traffic."""
    foreign_platforms: Literal["refuse", "qemu"] = "refuse"
    """Builds for another platform than the builder's: refuse, or run under qemu-user-static."""


class BundleSettings(_Section):
    folder: Path = Path("~/.cache/haechi/bundles")
    """Where offline bundles lie, a folder each; clusters are formed from them."""
    cache: Path = Path("~/.cache/haechi")
    """What making a bundle keeps between runs: compiled programs, modules, logs."""
    debian_mirror: str = ""
    """Debian archive for a bundle's host packages; empty: as this machine's apt has it."""


class ResultsSettings(_Section):
    retention_days: Annotated[float, Field(gt=0)] = 30
    """Results older than this are deleted."""
    max_queue_rows: Annotated[int, Field(gt=0)] = 200_000
    """Rows accepted but not yet committed, before callers get 503."""


class MetricsSettings(_Section):
    raw_hours: Annotated[float, Field(gt=0)] = 48
    """One-second samples are kept for so long."""
    minute_days: Annotated[float, Field(gt=0)] = 30
    """One-minute rollups are kept for so long."""
    hour_days: Annotated[float, Field(gt=0)] = 730
    """One-hour rollups are kept for so long."""


class CollaborationSettings(_Section):
    weather_confidence: Annotated[float, Field(ge=0, le=1)] = 0.5
    """The environment AI's readings below this confidence switch nothing."""
    weather_dwell_s: Annotated[float, Field(ge=0)] = 10
    """A new weather class must hold for so long before AIs are switched."""
    weather_minimum_stay_s: Annotated[float, Field(ge=0)] = 60
    """After a switch, or an attempt that failed, the AI stays for at least so long."""


class InteropSettings(_Section):
    listen: list[Address] = []
    """HOST:PORT of extra plain-HTTP listeners for programs of the older system; empty: off."""
    allow: list[str] = []
    """Networks whose callers the extra listeners serve; all others are refused."""
    require_token: bool = False
    """Callers of the extra listeners must show a token."""
    vms_url: str = ""
    """Base URL of an external VMS that is asked for unknown ids; empty: none."""
    timezone: str = "Asia/Seoul"
    """Zone of historic times that name none; agents on devices take Asia/Seoul."""
    wait_s: Annotated[float, Field(ge=0)] = 0
    """A long call is answered after so long at the latest; 0: when it is done."""
    strict: bool = False
    """Refuse fields that the old interface does not know."""
    inbox: Path | None = None
    """Folder where zips may be laid for the next upload call; empty: `inbox` in the data folder."""
    rate_per_s: Annotated[float, Field(gt=0)] = 200
    """Calls a second that one address may make on the extra listeners."""
    form_options: dict[str, Any] = {}
    """Options of clusters that old programs form, as POST /clusters takes them: `pod_cidr`,
    `accept` (warnings by name), `clean_leftovers`, `profile`… They hold for every
    host of each call."""

    @field_validator("allow")
    @classmethod
    def _networks(cls, value: list[str]) -> list[str]:
        return [str(ipaddress.ip_network(text.strip(), strict=False)) for text in value]

    @field_validator("timezone")
    @classmethod
    def _zone(cls, value: str) -> str:
        try:
            return ZoneInfo(value).key
        except (ZoneInfoNotFoundError, OSError) as error:
            raise ValueError(f"no time zone: {value[:64]}") from error

    @field_validator("vms_url")
    @classmethod
    def _http(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("begins with http:// or https://")
        return value


class OperationsSettings(_Section):
    retention_days: Annotated[float, Field(gt=0)] = 90
    """Ended operations and their logs are kept for so long."""


class LogSettings(_Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    """What the server writes to its log."""
    format: Literal["text", "json"] = "text"
    """One JSON object a line, or text for people."""


class AuthSettings(_Section):
    session_hours: Annotated[float, Field(gt=0)] = 12
    """A browser session ends after so long without use."""
    max_failures: Annotated[int, Field(gt=0)] = 10
    """Failed log-ins per name or address within five minutes before 429."""


class Settings(_Section):
    """Everything an operator may set; the sections are handed to the parts that need them."""

    server: ServerSettings = ServerSettings()
    agents: AgentsSettings = AgentsSettings()
    clusters: ClustersSettings = ClustersSettings()
    registry: RegistrySettings = RegistrySettings()
    packages: PackagesSettings = PackagesSettings()
    builds: BuildsSettings = BuildsSettings()
    bundle: BundleSettings = BundleSettings()
    results: ResultsSettings = ResultsSettings()
    metrics: MetricsSettings = MetricsSettings()
    collaboration: CollaborationSettings = CollaborationSettings()
    interop: InteropSettings = InteropSettings()
    operations: OperationsSettings = OperationsSettings()
    auth: AuthSettings = AuthSettings()
    log: LogSettings = LogSettings()


DASHBOARD_KEYS: Final = frozenset(
    {
        "server.language",
        "server.timezone",
        "agents.silent_after_s",
        "agents.dead_after_s",
        "clusters.backup_every_hours",
        "clusters.backups_kept",
        "clusters.renew_before_days",
        "packages.max_upload_bytes",
        "builds.timeout_s",
        "builds.pip_index_url",
        "builds.proxy",
        "builds.foreign_platforms",
        "results.retention_days",
        "metrics.raw_hours",
        "metrics.minute_days",
        "metrics.hour_days",
        "collaboration.weather_confidence",
        "collaboration.weather_dwell_s",
        "collaboration.weather_minimum_stay_s",
        "interop.vms_url",
        "interop.timezone",
        "interop.wait_s",
        "interop.strict",
        "operations.retention_days",
    }
)
"""What may be changed in the dashboard; taken up at the next start, or live where said so."""


@dataclass(frozen=True, slots=True)
class Loaded:
    settings: Settings
    origins: dict[str, Origin]
    """Dotted key → where its value came from; keys at their default are not listed."""

    def rows(self) -> Iterator[tuple[str, Any, Origin, str]]:
        """(dotted key, value, origin, description) of every setting, in order."""
        for section_name, section_field in Settings.model_fields.items():
            del section_field
            section: BaseModel = getattr(self.settings, section_name)
            for name, field in type(section).model_fields.items():
                key = f"{section_name}.{name}"
                origin = self.origins.get(key, "default")
                yield key, getattr(section, name), origin, field.description or ""


def load(
    *,
    flags: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    file: Path | None = None,
    dashboard: Mapping[str, Any] | None = None,
) -> Loaded:
    """Merge the layers. Raises BadSettings naming every wrong key."""
    layers: list[tuple[Origin, dict[str, Any]]] = [
        ("dashboard", dict(dashboard or {})),
        ("file", _from_file(file) if file else {}),
        ("environment", _from_environment(os.environ if environment is None else environment)),
        ("flag", {key: value for key, value in (flags or {}).items() if value is not None}),
    ]
    nested: dict[str, dict[str, Any]] = {}
    origins: dict[str, Origin] = {}
    for origin, values in layers:
        for key, value in values.items():
            section, _, name = key.partition(".")
            nested.setdefault(section, {})[name] = value
            origins[key] = origin
    try:
        settings = Settings.model_validate(nested)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()
        )
        raise BadSettings(reason=problems) from error
    return Loaded(settings, origins)


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """`HAECHI_SECTION__KEY`; JSON where it parses as a list, object, number or boolean."""
    values: dict[str, Any] = {}
    for name, text in environment.items():
        if not name.startswith(ENV_PREFIX) or "__" not in name:
            continue
        section, _, key = name.removeprefix(ENV_PREFIX).lower().partition("__")
        values[f"{section}.{key}"] = _parse(section, key, text)
    return values


def _parse(section: str, key: str, text: str) -> Any:
    model = Settings.model_fields.get(section)
    inner = model.annotation.model_fields.get(key) if model and model.annotation else None
    if inner is not None and inner.annotation in {str, Path}:
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _from_file(path: Path) -> dict[str, Any]:
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSettings(reason=f"{path}: {error}") from error
    values: dict[str, Any] = {}
    for section, content in document.items():
        if not isinstance(content, dict):
            raise BadSettings(reason=f"{path}: '{section}' must be a [section]")
        values |= {f"{section}.{key}": value for key, value in content.items()}
    return values
