"""A small complete bundle, made once; each test damages a copy of its own."""

import asyncio
import shutil

import pytest

from haechi.domains.clusters.bundle.model import Bundle
from haechi.testing.bundles import small_bundle


@pytest.fixture(scope="session")
def whole_bundle(tmp_path_factory):
    return asyncio.run(small_bundle(tmp_path_factory.mktemp("shelf")))


@pytest.fixture
def bundle(whole_bundle, tmp_path):
    folder = tmp_path / whole_bundle.name
    shutil.copytree(whole_bundle.folder, folder)
    return Bundle.open(folder)
