"""A small bundle whose programs, images and packages are real ones of this machine's platform."""

import asyncio
import platform

import pytest

from haechi.testing.bundles import small_bundle

PLATFORM = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}[platform.machine()]


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    return asyncio.run(small_bundle(tmp_path_factory.mktemp("shelf"), PLATFORM))
