import pytest

from haechi.domains.packages import manifest

FULL = """
[package]
name = "weather"
title_ko = "날씨"
title_en = "Weather"
description = "d"
author = "a"
classes = ["sunny", "rain"]
[needs]
camera = "one"
gpu = true
memory_mb = 512
cpu = 1
internet = false
privileged = false
[health]
ready = "sdk"
within_s = 20
heartbeat_s = 5.5
[deploy]
strategy = "recreate"
[environment]
THRESHOLD = 0.5
NAME = "x"
FAST = true
[variant]
of = "weather"
class = "01"
"""


def test_everything_it_may_say() -> None:
    found, problems = manifest.parse(FULL.encode())
    assert problems == []
    assert found.environment == {"THRESHOLD": "0.5", "NAME": "x", "FAST": "true"}
    assert found.variant is not None
    assert found.variant.class_ == "01"
    assert manifest.stored(found.as_json()) == found


def test_nothing_said() -> None:
    found, problems = manifest.parse(b"")
    assert (found.needs.camera, found.health.ready, problems) == ("many", None, [])


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("x", ["TOML"]),
        ("[package]\nnmae = 'x'\n[needs]\ncamera = 'two'\nmemory_mb = -1", 3),
        ("[needs]\ngpu = 'yes'", ["needs.gpu"]),
        ("[health]\nwithin_s = nan", ["health.within_s"]),
        ("[environment]\nHAECHI_TOKEN = 'x'", ["environment"]),
        ("[environment]\n'A B' = 'x'", ["environment"]),
        ("[environment]\nA = [1]", ["environment"]),
        ("[variant]\nof = 'x'", ["variant.class"]),
        ("[extra]\n", ["extra"]),
        ("\xff", ["TOML"]),
    ],
)
def test_every_problem_is_named(text: str, fields: list[str] | int) -> None:
    _, problems = manifest.parse(text.encode("latin-1"))
    named = [problem.data["field"] for problem in problems]
    assert named == fields if isinstance(fields, list) else len(named) == fields
