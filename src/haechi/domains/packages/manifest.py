"""`haechi.toml`: what a package says of itself (CONTRACTS 7). A misspelt key is a problem."""

import re
import tomllib
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from haechi.domains.packages.problems import BadManifest

FILE_NAME: Final = "haechi.toml"
MAX_BYTES: Final = 256 * 1024
_ENVIRONMENT_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}\Z")
Line = Annotated[str, Field(max_length=128)]


class _Table(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True
    )


class About(_Table):
    name: Line = ""
    title_ko: Line = ""
    title_en: Line = ""
    description: Annotated[str, Field(max_length=2000)] = ""
    author: Line = ""
    classes: Annotated[list[Line], Field(max_length=1000)] = []
    """What its results may name."""


class Needs(_Table):
    camera: Literal["none", "one", "many"] = "many"
    """`many`: it asks the agent for assignments; `one`: a container per camera."""
    gpu: bool = False
    memory_mb: Annotated[int, Field(gt=0, le=1024 * 1024)] | None = None
    cpu: Annotated[float, Field(gt=0, le=1024, allow_inf_nan=False)] | None = None
    internet: bool = False
    privileged: bool = False


class Health(_Table):
    ready: Literal["sdk", "result", "uptime"] | None = None
    """What proves that it works; None: whichever comes first."""
    within_s: Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)] | None = None
    heartbeat_s: Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)] | None = None


class Deploy(_Table):
    strategy: Literal["overlap", "recreate"] | None = None
    """None: preflight chooses."""


class Variant(_Table):
    of: Annotated[str, Field(min_length=1, max_length=128)]
    class_: Annotated[str, Field(min_length=1, max_length=64, alias="class")]


class Manifest(_Table):
    package: About = About()
    needs: Needs = Needs()
    health: Health = Health()
    deploy: Deploy = Deploy()
    environment: dict[str, str] = {}
    variant: Variant | None = None

    @field_validator("environment", mode="before")
    @classmethod
    def _plain_values(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if len(value) > 200:
            raise ValueError("at most 200 variables")
        return {key: _environment_value(key, item) for key, item in value.items()}

    def as_json(self) -> dict[str, Any]:
        return self.model_dump(by_alias=True)


PLAIN: Final = Manifest(needs=Needs(camera="one"), health=Health(ready="uptime"))
"""What a package without haechi.toml means: one container per camera, proven by its uptime."""


def _environment_value(name: str, value: Any) -> str:
    if not _ENVIRONMENT_NAME.match(name):
        raise ValueError(f"'{name[:40]}' is no variable name")
    if name.upper().startswith("HAECHI_"):
        raise ValueError(f"'{name[:40]}': HAECHI_* is set by haechi")
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int | float):
        raise ValueError(f"'{name}' must be a text, a number or true/false")  # noqa: TRY004
    text = str(value)
    if "\0" in text or len(text) > 10_000:
        raise ValueError(f"'{name}' is too long or has a NUL")
    return text


def parse(content: bytes) -> tuple[Manifest, list[BadManifest]]:
    """The manifest, and every problem with it."""
    try:
        document = tomllib.loads(content.decode("utf-8-sig"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        return PLAIN, [BadManifest(field="TOML", reason=str(error)[:200])]
    try:
        return Manifest.model_validate(document), []
    except ValidationError as error:
        problems = [
            BadManifest(field=".".join(map(str, item["loc"])) or "-", reason=item["msg"])
            for item in error.errors(include_url=False, include_input=False)
        ]
        return PLAIN, problems


def stored(document: dict[str, Any]) -> Manifest:
    """From the database."""
    return Manifest.model_validate(document)
