"""An operation is followed to its end, also where the server does not answer now and then."""

import pytest

from haechi.cli import show
from haechi.cli.client import UNREACHABLE, ApiError


class Answer:
    def __init__(self, text):
        self.text = text


class FakeApi:
    """Answers in turn; an error is raised. `json_output` asks for no log."""

    json_output = True

    def __init__(self, *answers):
        self.answers = list(answers)

    def get(self, _path):
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return {"state": answer, "error": None}

    def request(self, _method, _path):
        return Answer("")


def refusal(code, status=502):
    return ApiError(status, {"code": code, "detail": code}, as_json=True)


@pytest.fixture
def clock(monkeypatch):
    """Time passes only by sleeping."""
    passed = [0.0]
    monkeypatch.setattr(show.time, "monotonic", lambda: passed[0])
    monkeypatch.setattr(show.time, "sleep", lambda s: passed.__setitem__(0, passed[0] + s))
    return passed


@pytest.mark.parametrize("json_output", [True, False])
def test_a_server_that_is_away_for_a_moment(clock, json_output):
    away = refusal(UNREACHABLE)
    api = FakeApi("running", away, away, "running", away, "succeeded")
    api.json_output = json_output
    assert show.follow_operation(api, "op-1")["state"] == "succeeded"


def test_a_server_that_stays_away_is_given_up(clock):
    with pytest.raises(ApiError) as caught:
        show.follow_operation(FakeApi("running", refusal(UNREACHABLE)), "op-1")
    assert caught.value.problem["code"] == UNREACHABLE
    assert show.AWAY_S <= clock[0] <= show.AWAY_S + 10


def test_any_other_refusal_counts_at_once(clock):
    with pytest.raises(ApiError):
        show.follow_operation(FakeApi(refusal("core.not_found", 404)), "op-1")
    assert clock[0] == 0.0
