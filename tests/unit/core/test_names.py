"""A name becomes an address, or the error says which name it was; never for ever."""

import asyncio
import socket

import pytest

from haechi.core.names import NameUnknown, address_of


@pytest.fixture
def answer(monkeypatch):
    """What the machine's name service does with the next names."""

    def set_to(do):
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", do)

    return set_to


async def test_an_address_is_its_own(answer):
    async def never(*_args, **_kwargs):
        raise AssertionError("nothing is to be asked")

    answer(never)
    assert await address_of("192.0.2.7") == "192.0.2.7"
    assert await address_of("fd00:0::1") == "fd00::1"


async def test_a_name_is_looked_up(answer):
    async def found(name, *_args, **_kwargs):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"192.0.2.{len(name)}", 0))]

    answer(found)
    assert await address_of("site") == "192.0.2.4"


async def test_a_name_is_looked_up_in_the_family_that_is_asked_for(answer):
    async def found(_name, _port, *, family, **_kwargs):
        address = {socket.AF_INET: "192.0.2.4", socket.AF_UNSPEC: "fd00::4"}[family]
        return [(family, socket.SOCK_STREAM, 6, "", (address, 0))]

    answer(found)
    assert await address_of("site", family=socket.AF_INET) == "192.0.2.4"


async def test_an_unknown_name_and_a_silent_service_are_told(answer):
    async def unknown(*_args, **_kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    async def silent(*_args, **_kwargs):
        await asyncio.Event().wait()

    answer(unknown)
    with pytest.raises(NameUnknown) as caught:
        await address_of("site")
    assert caught.value.data["name"] == "site"
    answer(silent)
    with pytest.raises(NameUnknown) as caught:
        await address_of("site", timeout_s=0.01)
    assert "0.01 s" in caught.value.data["reason"]
