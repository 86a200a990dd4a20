from collections.abc import Iterator

import pytest

from ..packages.conftest import Server  # noqa: TID252 - tests are no package to import from


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("inventory"))
    yield server
    server.kill()
