from collections.abc import Callable
from pathlib import Path

import pytest

from haechi.domains.packages.inspection import Inspection, Limits, inspect
from haechi.errors import AppError

LIMITS = Limits(max_files=1000, max_unpacked_bytes=64 * 1024**2)
Look = Callable[[bytes], Inspection]
Problems = Callable[[bytes], list[str]]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For hundreds of examples: `mktemp` looks through all folders that it made before."""
    return tmp_path_factory.mktemp("workshop")


@pytest.fixture
def look(tmp_path: Path) -> Look:
    def at(data: bytes) -> Inspection:
        path = tmp_path / "looked-at.zip"
        path.write_bytes(data)
        return inspect(path, LIMITS)

    return at


def codes(error: AppError) -> list[str]:
    """The codes of all problems that the error names."""
    return [part["code"] for part in error.problem("ko")["data"]["problems"]]


@pytest.fixture
def problems(look: Look) -> Problems:
    def of(data: bytes) -> list[str]:
        with pytest.raises(AppError) as caught:
            look(data)
        return codes(caught.value)

    return of
