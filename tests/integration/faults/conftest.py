"""What the tests of faults share: the one error shape, and processes on folders of their own."""

import contextlib
import re
import time

import pytest

from haechi.testing.processes import ServerProcess

FIELDS = {"type", "title", "status", "code", "detail", "remedy", "data", "request_id"}


def problem(answer, status, code):
    """The answer is this refusal, in the one shape; returns its document."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found = answer.json()
    assert set(found) >= FIELDS
    assert (found["status"], found["code"]) == (status, code), found
    check_texts(found)
    return found


def check_texts(found):
    """Words for a person: filled in, with what to do, nothing of the program's inside."""
    for key in ("detail", "remedy"):
        assert found[key], found
        assert "Traceback" not in found[key]
        assert not re.search(r"\{[a-z_]+\}", found[key]), found


def in_both_languages(call):
    """Ask twice; returns the problem in Korean and in English."""
    korean, english = call("ko").json(), call("en").json()
    assert re.search("[가-힣]", korean["detail"] + korean["remedy"])
    assert not re.search("[가-힣]", english["remedy"])
    for found in (korean, english):
        check_texts(found)
    return korean, english


def until(true, within_s=30.0):
    """Wait for a condition; returns what it gave."""
    deadline = time.monotonic() + within_s
    while not (found := true()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return found


def ended(client, operation_id, within_s=60.0):
    """The operation, once it has ended."""

    def over():
        operation = client.get(f"/operations/{operation_id}").raise_for_status().json()
        return operation if operation["state"] in {"succeeded", "failed", "cancelled"} else None

    return until(over, within_s)


@contextlib.contextmanager
def serving(folder, **settings):
    """A server process; its log holds no traceback at the end."""
    server = ServerProcess(folder, **settings)
    server.start()
    try:
        yield server
        assert "Traceback" not in server.log, server.log[-3000:]
    finally:
        server.kill()


@pytest.fixture(scope="module")
def server(tmp_path_factory, request):
    """A server for the tests of a module, with the module's SETTINGS."""
    settings = getattr(request.module, "SETTINGS", {})
    with serving(tmp_path_factory.mktemp("server"), **settings) as made:
        yield made


@pytest.fixture(scope="module")
def client(server):
    with server.client() as made:
        yield made
